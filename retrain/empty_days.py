"""Days without any payment, as somebody declared them; every later run knows them too.

    RETRAIN/empty-days.json    the days, who declared each, and when

A day of which neither archive nor journal has a transaction is nearly always one that was not imported or not kept, so
a run refuses it. A bank holiday on which nothing was paid is declared once: `plumbline retrain --empty-day 2026-12-25`.
"""

import datetime
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from plumbline.errors import InvalidArchive, InvalidSetting
from retrain.manifest import sync

FILE: Final = "empty-days.json"
_EPOCH: Final = datetime.date(1970, 1, 1)


class EmptyDay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """A day without payments; declared_at: microseconds since 1970 UTC."""

    day: Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    declared_by: str
    declared_at: int


def parse_day(text: str) -> str:
    """A date as it is stored. Raises InvalidSetting.

    >>> parse_day("2026-12-25")
    '2026-12-25'
    """
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError:
        raise InvalidSetting("retrain", "--empty-day", text, "a date such as 2026-12-25") from None


def declared(root: Path) -> tuple[EmptyDay, ...]:
    """The days that were declared empty, by date; root: folder of all runs. Raises InvalidArchive."""
    file = root / FILE
    try:
        return tuple(sorted(msgspec.json.decode(file.read_bytes(), type=list[EmptyDay])))
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidArchive("empty days", "file", str(file), f"a readable list ({error})") from error


def declare(root: Path, days: Collection[str], by: str, now_us: int) -> tuple[EmptyDay, ...]:
    """Add days to those that were declared before, and return all; one that was declared stays as it was."""
    before = declared(root)
    known = {each.day for each in before}
    new = [EmptyDay(day, by, now_us) for day in sorted(set(days) - known)]
    if not new:
        return before
    every = tuple(sorted((*before, *new)))
    unfinished = root / f".{FILE}.partial"
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(every)) + b"\n")
    sync([unfinished])
    unfinished.replace(root / FILE)
    sync([root])
    return every


def day_number(day: str) -> int:
    """A date as days since 1970."""
    return (datetime.date.fromisoformat(day) - _EPOCH).days
