"""The step `history`: the past of every row that has no day file yet, as it was logged, or computed again by Beam.

    FOLDER/logged.parquet      sequence and measures of the decisions that the journal says them of, ascending
    FOLDER/computed.parquet    the same of all other rows, by the Beam pipeline; one file of each is there at most

A decision carries the numbers that it was made from, for every declaration that was in force; these are taken as they
are. The archive's rows were never decided, and a new declaration was not in force when older decisions were made: their
history is computed from all that arrived before them, labels included, in the journal's order. Both are equal to the
bit (a test, and `plumbline audit` every day, hold them together).
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from audit.batch_path import LABEL_FILES, TRANSACTION_FILES, recompute_history
from features.grammar import Declaration
from features.pieces import blocks as pieces
from features.runner import EMBEDDED, Runner
from plumbline.errors import FingerprintMismatch, InvalidArchive, Unready
from plumbline.transaction import DAY_US
from retrain.blocks import histories, read_columns
from retrain.days import file_names, is_there
from retrain.sources import Sources, Tell, open_sources, silent
from training.windows import Windows

LOGGED: Final = "logged.parquet"
COMPUTED: Final = "computed.parquet"
GROUP_ROWS: Final = 65_536
GROUPS_HELD: Final = 6

Integers = npt.NDArray[np.int64]


def days_of(windows: Windows) -> list[int]:
    """Every day of both windows, ascending, as numbers of days since 1970."""
    return [*range(windows.train.first, windows.train.last + 1), *range(windows.test.first, windows.test.last + 1)]


def history(
    folder: Path,
    *,
    sources: Path,
    days: Path,
    windows: Windows,
    declaration: Declaration,
    runner: Runner = EMBEDDED,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Write the history of the days that have no file under `days` into an empty folder.

    sources: folder of the step `archive`; runner: of Beam. Raises as `recompute_history`, and FingerprintMismatch where
    the journal's numbers under this declaration are of another number of measures; Unready when the disk is full.
    """
    opened = open_sources(sources)
    names = file_names(opened, days_of(windows), declaration)
    missing = {day for day, name in names.items() if not is_there(days, name)}
    try:
        logged, lacking = _write_logged(opened, missing, declaration, folder, tell)
        archived = sum(
            batch.num_rows
            for day in sorted(missing)
            for batch in opened.archived(day * DAY_US, (day + 1) * DAY_US, ("sequence",))
        )
        if archived or len(lacking):
            _write_computed(opened, missing, archived > 0, lacking, declaration, runner, folder)
    except OSError as error:
        raise Unready(f"{folder} cannot take history ({error.strerror}): make room there") from error
    return {
        "rows_logged": logged,
        "rows_recomputed": len(lacking),
        "rows_archive": archived,
        "days_missing": len(missing),
        "days_there": len(names) - len(missing),
    }


class Lookup:
    """History by sequence number, from what the step wrote; a few row groups at a time are in memory."""

    def __init__(self, folder: Path, declaration: Declaration) -> None:
        self._names = declaration.history_names
        self._files = [_Sorted(folder / name) for name in (LOGGED, COMPUTED) if (folder / name).exists()]

    def of(self, sequences: Integers) -> Integers:
        """History int64 [n, measures] of n ascending sequence numbers; raises InvalidArchive for one that has none."""
        out, found = np.zeros((len(sequences), len(self._names)), np.int64), np.zeros(len(sequences), np.bool_)
        for file in self._files:
            file.fill(sequences, out, found, self._names)
        if not found.all():
            lacking = int(sequences[~found][0])
            raise InvalidArchive(
                "history of a night", "sequence", lacking, "one that the step `history` wrote; run it again"
            )
        return out


@dataclass(slots=True)
class _Group:
    first: int
    last: int
    rows: pa.Table | None = None


class _Sorted:
    """A Parquet file that ascends by `sequence`."""

    def __init__(self, file: Path) -> None:
        self._parquet = pq.ParquetFile(file)
        self._held: list[int] = []
        self._groups: list[_Group] = []
        for number in range(self._parquet.num_row_groups):
            bounds = self._parquet.metadata.row_group(number).column(0).statistics
            self._groups.append(_Group(bounds.min, bounds.max))

    def fill(self, sequences: Integers, out: Integers, found: Any, names: Sequence[str]) -> None:
        for number, group in enumerate(self._groups):
            begin, end = np.searchsorted(sequences, [group.first, group.last + 1])
            if begin == end:
                continue
            rows = self._rows(number)
            have = np.asarray(rows["sequence"], dtype=np.int64)
            at = np.minimum(np.searchsorted(have, sequences[begin:end]), len(have) - 1)
            ours = have[at] == sequences[begin:end]
            for column, name in enumerate(names):
                out[begin:end, column][ours] = np.asarray(rows[name], dtype=np.int64)[at[ours]]
            found[begin:end] |= ours

    def _rows(self, number: int) -> pa.Table:
        group = self._groups[number]
        if group.rows is None:
            group.rows = self._parquet.read_row_group(number)
            self._held.append(number)
            if len(self._held) > GROUPS_HELD:
                self._groups[self._held.pop(0)].rows = None
        return group.rows


def _write_logged(
    opened: Sources, missing: set[int], declaration: Declaration, folder: Path, tell: Tell
) -> tuple[int, Integers]:
    """Write what the journal says of the missing days; returns how many rows, and the sequences that it lacks."""
    schema = _schema(declaration)
    rows, lacking = 0, [np.zeros(0, np.int64)]
    wanted = list(opened.blocks_of(missing))
    writer: pq.ParquetWriter | None = None
    try:
        for number, block in enumerate(wanted):
            tell(number, len(wanted))
            if opened.journal is None:
                raise AssertionError("blocks come from a journal")
            told, without = [], []
            for sequence, each in histories(opened.journal, block, opened.pinned.stop):
                if each.transaction.occurred_at // DAY_US in missing:
                    values = each.under(declaration.fingerprint)
                    if values is None:
                        without.append(sequence)
                        continue
                    if len(values) != len(declaration.history):
                        raise FingerprintMismatch(
                            f"journal entry {sequence}, with {len(values)} measures,", each.fingerprint,
                            declaration.fingerprint, f"it declares {len(declaration.history)}; audit the journal",
                        )  # fmt: skip
                    told.append((sequence, *values))
            if told:
                columns = np.array(told, np.int64)
                writer = writer or pq.ParquetWriter(folder / LOGGED, schema, compression="zstd")
                table = pa.table([columns[:, at] for at in range(columns.shape[1])], schema=schema)
                writer.write_table(table, row_group_size=GROUP_ROWS)
            rows += len(told)
            lacking.append(np.array(without, np.int64))
    finally:
        if writer is not None:
            writer.close()
    return rows, np.concatenate(lacking)


def _write_computed(
    opened: Sources,
    missing: set[int],
    with_archive: bool,
    lacking: Integers,
    declaration: Declaration,
    runner: Runner,
    folder: Path,
) -> None:
    """Compute what is not logged: rows of the archive, and decisions under another declaration, from all arrivals."""
    arrivals, scratch = folder / ".arrivals", folder / ".pieces"
    arrivals.mkdir()
    stop = int(lacking[-1]) + 1 if len(lacking) else 0
    _write_arrivals(opened, stop, arrivals)
    keys = None if with_archive else _keys(opened, lacking)
    archive = None if opened.archive is None else opened.archive.path
    until_us = opened.pinned.archive_until_us
    if with_archive and not len(lacking):  # what came later says nothing of these rows
        until_us = min(until_us, (max(missing) + 1) * DAY_US)
    keep_us = min(missing) * DAY_US, (max(missing) + 1) * DAY_US
    recompute_history(
        archive, until_us, arrivals, scratch, keep_us=keep_us, keys=keys, declaration=declaration, runner=runner
    )
    with pq.ParquetWriter(folder / COMPUTED, _schema(declaration), compression="zstd") as writer:
        for block in _needed(pieces(scratch, declaration), lacking):
            writer.write_table(block, row_group_size=GROUP_ROWS)
    shutil.rmtree(arrivals)
    shutil.rmtree(scratch)


def _needed(computed: Iterator[pa.Table], lacking: Integers) -> Iterator[pa.Table]:
    """The archive's rows and those that the journal does not say; the others stay as they were logged."""
    for block in computed:
        numbers = np.asarray(block["sequence"], dtype=np.int64)
        kept = block.filter(pa.array((numbers < 0) | np.isin(numbers, lacking)))
        if kept.num_rows:
            yield kept


def _write_arrivals(opened: Sources, stop: int, folder: Path) -> None:
    """Everything that entered history before a sequence number of the journal, as the pipeline reads it."""
    for number, block in enumerate(each for each in opened.pinned.blocks if each.first < stop):
        opened.columns_of(block)
        paid = read_columns(opened.cache, block, "transactions", stop, columns=TRANSACTION_FILES.names)
        told = read_columns(opened.cache, block, "labels", stop, filters=[("effect", "==", "counted")])
        pq.write_table(paid.select(TRANSACTION_FILES.names), folder / f"transactions-{number:06d}.parquet")
        pq.write_table(told.select(LABEL_FILES.names), folder / f"labels-{number:06d}.parquet")


def _keys(opened: Sources, lacking: Integers) -> dict[str, pa.Array]:
    """The accounts, merchants and devices of the rows that are to be computed: no other key matters."""
    owners = ("account", "merchant", "device")
    found: dict[str, list[Any]] = {owner: [] for owner in owners}
    for block in opened.pinned.blocks:
        names = ["sequence", *(f"{owner}_id" for owner in owners)]
        rows = read_columns(opened.cache, block, "transactions", opened.pinned.stop, columns=names)
        wanted = rows.filter(pa.array(np.isin(np.asarray(rows["sequence"], dtype=np.int64), lacking)))
        for owner in owners:
            found[owner].append(pc.unique(wanted[f"{owner}_id"]))
    keys = {owner: pc.unique(pa.concat_arrays([_array(each) for each in parts])) for owner, parts in found.items()}
    return {owner: each.filter(pc.not_equal(each, "")) for owner, each in keys.items()}


def _schema(declaration: Declaration) -> pa.Schema:
    return pa.schema([(name, pa.int64()) for name in ("sequence", *declaration.history_names)])


def _array(column: Any) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
