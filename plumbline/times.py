"""Whether a time that somebody sent can be true, and which unit a wrong one looks like.

Times are microseconds since 1970 UTC. A platform that sends seconds or milliseconds names a moment of 1970, and 0 where
its clock was never read. Such a time is no error of the type, so it is compared with the moment at which the message
came: for the stream the broker's append time, which is in the journal, so that an audit compares with the same moment.
"""

import math
from typing import Any, Final

from plumbline.epoch import unit_of
from plumbline.errors import Invalid

SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US

AHEAD_MAX_US: Final = DAY_US
"""How far a platform's clock may run ahead of ours: one day, which also covers a wrong time zone."""

MAX_AGE_DAYS: Final = 730
"""The default of the setting `message_max_age_days`."""

ANY_AGE_DAYS: Final = 36_500
"""So many days before now lies before 1970: no time is too old."""

ARCHIVE_EARLIEST_US: Final = 946_684_800 * SECOND_US
"""2000-01-01 UTC. An archive may hold any past year of card payments; an earlier time in it is another unit."""

ARCHIVE_LATEST_US: Final = 4_102_444_800 * SECOND_US
"""2100-01-01 UTC."""


def unit_hint(value: object) -> str:
    """What to say of a time that cannot be true, behind what was expected; empty where there is nothing to say.

    >>> unit_hint(1_795_996_800)
    '; it looks like seconds, expected microseconds since 1970 UTC'
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return ""
    if value == 0:
        return "; 0 looks like a time that was never set"
    found = unit_of(int(value), ARCHIVE_EARLIEST_US, ARCHIVE_LATEST_US)
    if found is None or found[0] == "microseconds":
        return ""
    return f"; it looks like {found[0]}, expected microseconds since 1970 UTC"


def require_plausible(kind: type[Invalid], subject: str, field: str, time_us: int, now_us: int, oldest_us: int) -> None:
    """Raises an error of the kind where a time lies before `oldest_us`, or more than a day after `now_us`.

    now_us: when the message came, microseconds since 1970 UTC.
    """
    if time_us < oldest_us:
        raise kind(subject, field, time_us, f"a time from {oldest_us} on, and now is {now_us}{unit_hint(time_us)}")
    if time_us > now_us + AHEAD_MAX_US:
        raise kind(subject, field, time_us, f"a time at most one day ahead of now ({now_us}){unit_hint(time_us)}")


def with_hint(field: str, value: Any, allowed: str) -> str:
    """What is allowed in a field, with a hint where the field is a time whose value is one in another unit."""
    return allowed + unit_hint(value) if field in {"occurred_at", "known_at"} else allowed
