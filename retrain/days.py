"""Day files: the rows of one UTC day under one declaration, made once and used night after night.

    DAYS/day=2018-07-25.FINGERPRINT.DIGEST16.parquet           sequence, ids, raw inputs, every measure; no truth
    DAYS/day=2018-07-25.FINGERPRINT.DIGEST16.parquet.sha256    digest of the file, as `sha256sum` writes it

No truth stands in them, so they stay when labels come. The digest in the name is over everything that a day is made of:
the archive's file of it, the journal's blocks up to the last that has a transaction of it, and how many each has. A
late transaction gives its day another name, so the file is made again, and the old one is never taken for it.
"""

import hashlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from archive.kept import Block
from archive.layout import Archive
from archive.manifest import SUMS_NAME, TRANSACTION_SCHEMA, file_sha256
from features.grammar import RAW_INTEGERS, RAW_STRINGS, Declaration
from plumbline.errors import Unready
from plumbline.transaction import DAY_US
from retrain.blocks import read_columns
from retrain.sources import Sources
from training.windows import day_name

FORMAT: Final = 1
"""Raised when a day file of the same sources comes to look otherwise."""

COLUMNS: Final = ("sequence", "transaction_id", "account_id", *RAW_INTEGERS, *RAW_STRINGS)
GROUP_ROWS: Final = 65_536


def schema(declaration: Declaration) -> pa.Schema:
    """Columns of a day file."""
    fields = [pa.field("sequence", pa.int64()), *(TRANSACTION_SCHEMA.field(name) for name in COLUMNS[1:])]
    return pa.schema([*fields, *((name, pa.int64()) for name in declaration.history_names)])


def file_names(sources: Sources, days: Collection[int], declaration: Declaration) -> dict[int, str]:
    """What each day's file is called, by number of day since 1970; nothing of it need be there yet."""
    sums = _sums(sources.archive)
    chain, made_of = hashlib.sha256(), {day: [_of_archive(sources, sums, day)] for day in days}
    for block in sources.pinned.blocks:
        chain.update(block.sha256.encode())
        for day, rows in rows_by_day(sources, block).items():
            if day in made_of:
                made_of[day].append(f"{chain.hexdigest()} {rows}")
    return {day: _name(day, declaration, parts) for day, parts in sorted(made_of.items())}


def rows_by_day(sources: Sources, block: Block) -> dict[int, int]:
    """How many transactions a block has of each day, before the journal's cut."""
    if block.stop <= sources.pinned.stop:
        return {int(day): rows for day, rows in sources.columns_of(block).days.items()}
    sources.columns_of(block)
    times = read_columns(sources.cache, block, "transactions", sources.pinned.stop, columns=["occurred_at"])
    counts = pc.value_counts(pc.divide(times["occurred_at"], DAY_US)).to_pylist()
    return {each["values"]: each["counts"] for each in counts}


def is_there(folder: Path, name: str) -> bool:
    """Whether a day file is complete and as it was written."""
    try:
        sha256, listed = (folder / f"{name}.sha256").read_text().split()
        return listed == name and file_sha256(folder / name) == sha256
    except (OSError, ValueError):
        return False


def write_day(folder: Path, name: str, rows: pa.Table) -> None:
    """Write a day file at one stroke, its digest first. Raises Unready when the disk is full."""
    unfinished, sums = folder / f".{name}.partial", folder / f"{name}.sha256"
    try:
        pq.write_table(rows, unfinished, compression="zstd", row_group_size=GROUP_ROWS)
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        listing = folder / f".{name}.sha256.partial"
        listing.write_text(f"{file_sha256(unfinished)}  {name}\n")
        listing.replace(sums)
        unfinished.replace(folder / name)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise Unready(f"{folder} cannot take the rows of a day ({error.strerror}): make room there") from error


def prune(folder: Path, keep: Collection[str]) -> int:
    """Remove the day files that are not among `keep`, and what a killed night left half-written; returns how many."""
    removed = 0
    for file in sorted(folder.glob("day=*.parquet")):
        if file.name not in keep:
            file.unlink()
            file.with_name(f"{file.name}.sha256").unlink(missing_ok=True)
            removed += 1
    for left in folder.glob(".day=*.partial"):
        left.unlink()
    return removed


def _name(day: int, declaration: Declaration, parts: list[str]) -> str:
    lines = [f"rows {FORMAT} {declaration.fingerprint}", *parts]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return f"day={day_name(day)}.{declaration.fingerprint}.{digest[:16]}.parquet"


def _of_archive(sources: Sources, sums: dict[str, str], day: int) -> str:
    """What an archive adds to a day: its history rests on everything in the archive."""
    sha256 = sums.get(f"transactions/day={day_name(day)}.parquet", "")
    until_us = sources.pinned.archive_until_us
    if not sha256 or until_us <= day * DAY_US:
        return ""
    cut = until_us if until_us < (day + 1) * DAY_US else ""
    return f"{sources.pinned.archive_digest} {sha256} {cut}"


def _sums(archive: Archive | None) -> dict[str, str]:
    if archive is None:
        return {}
    lines = (archive.path / SUMS_NAME).read_text().splitlines()
    return {name: sha256 for sha256, name in (line.split("  ", 1) for line in lines)}
