"""The step `rows`: day files for the days that have none, and from them the rows to train and to test on.

    DAYS/day=....parquet       see `retrain.days`; shared by all nights
    FOLDER/days.json           the day files of this night, by name and digest
    FOLDER/train.parquet       rows of the training days that have a truth, with `fraud` and `weight`, by day
    FOLDER/test.parquet        the same of the test days

A day file is complete or is not there, so a night that was killed goes on with the next day.
"""

from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.grammar import Declaration
from plumbline.errors import InvalidArchive, Unready
from plumbline.transaction import DAY_US
from retrain.days import COLUMNS, GROUP_ROWS, file_names, is_there, schema, write_day
from retrain.history import Lookup, days_of
from retrain.sources import Sources, Tell, open_sources, silent
from training.windows import Windows

DAYS: Final = "days.json"


class DayFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A day file of a night: its name, its SHA-256, its rows, and for what it is used."""

    name: str
    sha256: str
    rows: int
    use: str


class DayFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`days.json`."""

    folder: str
    files: tuple[DayFile, ...]


def rows(
    folder: Path,
    *,
    sources: Path,
    truth: Path,
    history: Path,
    days: Path,
    windows: Windows,
    declaration: Declaration,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Make the day files that are missing, and write the rows of both windows into an empty folder.

    sources, truth, history: folders of the steps before; days: where day files are kept.
    Raises InvalidArchive where a step before left something out, Unready when the disk is full.
    """
    opened = open_sources(sources)
    names = file_names(opened, days_of(windows), declaration)
    days.mkdir(parents=True, exist_ok=True)
    past = Lookup(history, declaration)
    made = damaged = 0
    for number, (day, name) in enumerate(names.items()):
        tell(number, len(names) + 1)
        if not is_there(days, name):
            damaged += (days / name).exists()
            write_day(days, name, _rows_of(opened, day, past, declaration))
            made += 1
    uses = {"train": windows.train, "test": windows.test}
    listed: list[DayFile] = []
    facts: dict[str, Any] = {"days_made": made, "days_kept": len(names) - made, "days_damaged": damaged}
    for use, window in uses.items():
        files = {day: days / names[day] for day in range(window.first, window.last + 1)}
        listed += [_listed(file, use) for file in files.values()]
        found, frauds = _join(files, truth / f"{use}.parquet", folder / f"{use}.parquet", declaration)
        facts |= {f"rows_{use}": found, f"frauds_{use}": frauds}
    (folder / DAYS).write_bytes(msgspec.json.format(msgspec.json.encode(DayFiles(str(days.absolute()), tuple(listed)))))
    tell(len(names) + 1, len(names) + 1)
    return facts


def day_files(folder: Path, use: str = "train") -> list[Path]:
    """The day files that a night trains (or tests) on, by day; folder: of the step `rows`."""
    found = read_days(folder)
    return [Path(found.folder) / each.name for each in found.files if each.use == use]


def read_days(folder: Path) -> DayFiles:
    """`days.json`; raises InvalidArchive."""
    try:
        return msgspec.json.decode((folder / DAYS).read_bytes(), type=DayFiles)
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidArchive("rows of a night", "file", str(folder / DAYS), f"a readable one ({error})") from error


def _rows_of(opened: Sources, day: int, past: Lookup, declaration: Declaration) -> pa.Table:
    """A day's rows, ascending by sequence: the archive's, then the journal's."""
    since, until = day * DAY_US, (day + 1) * DAY_US
    plain = schema(declaration).remove_metadata()
    raw = pa.schema([plain.field(name) for name in COLUMNS])
    parts = [raw.empty_table()]
    parts += [pa.Table.from_batches([batch]).cast(raw) for batch in opened.archived(since, until, COLUMNS)]
    parts += [table.cast(raw) for table in opened.journaled(since, min(until, opened.cut_off_us), COLUMNS)]
    found = pa.concat_tables(parts).combine_chunks()
    history = past.of(np.asarray(found["sequence"], dtype=np.int64))
    columns = [*found.columns, *(pa.array(history[:, at]) for at in range(history.shape[1]))]
    return pa.table(columns, schema=plain)


def _listed(file: Path, use: str) -> DayFile:
    sha256 = file.with_name(f"{file.name}.sha256").read_text().split()[0]
    return DayFile(file.name, sha256, pq.read_metadata(file).num_rows, use)


def _join(files: dict[int, Path], truth: Path, to: Path, declaration: Declaration) -> tuple[int, int]:
    """Write the rows that have a truth, a day at a time; returns rows and frauds."""
    plain = schema(declaration)
    whole = pa.schema([*plain, pa.field("fraud", pa.bool_()), pa.field("weight", pa.float64())])
    found = frauds = 0
    try:
        with pq.ParquetWriter(to, whole, compression="zstd") as writer:
            for day, file in files.items():
                told = pq.read_table(truth, filters=_day(day), columns=["sequence", "fraud", "weight"])
                rows_of_day = pq.read_table(file)
                have = np.asarray(rows_of_day["sequence"], dtype=np.int64)
                wanted = np.asarray(told["sequence"], dtype=np.int64)
                at = np.minimum(np.searchsorted(have, wanted), max(0, len(have) - 1))
                if len(wanted) and not (len(have) and np.array_equal(have[at], wanted)):
                    raise InvalidArchive(
                        "truths of a night", "file", str(truth), f"of the rows in {file.name}; run `labels` again"
                    )
                chosen = rows_of_day.take(pa.array(at))
                chosen = chosen.append_column("fraud", told["fraud"]).append_column("weight", told["weight"])
                if chosen.num_rows:
                    writer.write_table(chosen.cast(whole), row_group_size=GROUP_ROWS)
                found, frauds = found + chosen.num_rows, frauds + int(pc.sum(told["fraud"]).as_py() or 0)
    except OSError as error:
        raise Unready(f"{to} cannot take the rows ({error.strerror}): make room there") from error
    return found, frauds


def _day(day: int) -> list[Any]:
    return [("occurred_at", ">=", day * DAY_US), ("occurred_at", "<", (day + 1) * DAY_US)]
