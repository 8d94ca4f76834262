"""Writes an archive in one pass over transactions of any number, in bounded memory, whole or not at all.

`sequence` counts up to -1, so the first number is known only when the last row is. Rows are therefore set down once in
a scratch file of Arrow batches, and numbered while they are written as Parquet. Everything goes into a folder beside
the target, which takes the target's name at the very end: a reader never sees half an archive.
"""

import datetime
import errno
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from archive.manifest import (
    FORMAT,
    LABEL_SCHEMA,
    MANIFEST_NAME,
    STORED_SCHEMA,
    SUMS_NAME,
    TRANSACTION_SCHEMA,
    Manifest,
    digest_of,
    sums_of,
    write_manifest,
)
from archive.swap import exchange, sync
from plumbline.errors import InvalidArchive, Refused, Unready
from plumbline.transaction import DAY_US

GROUP_ROWS = 131_072
"""Rows of a Parquet row group: fixed, so that an archive's bytes do not depend on how its rows were handed over."""

Chunk: TypeAlias = pa.Table | pa.RecordBatch
Labels: TypeAlias = pa.Table | Callable[[], pa.Table]


def write_archive(
    path: Path,
    transactions: Iterable[Chunk],
    labels: Labels,
    source: str,
    *,
    verify: Callable[[Path], object],
    replace: bool = False,
) -> None:
    """Write an archive whole, or leave nothing behind.

    transactions: chunks of TRANSACTION_SCHEMA, in arrival order over all chunks (`occurred_at` never falls).
    labels: a table of LABEL_SCHEMA in any order, or a function that gives it once all transactions were taken.
    source: where the rows came from, for the manifest; replace: put it in the place of an archive that is there, once
    `verify` has read it again. Raises Refused when the target exists, InvalidArchive for no rows at all, rows that
    break the order or a label that fits no transaction, Unready when the disk is full or closed to us.
    """
    _check_target(path, replace)
    scratch = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
        folder = scratch / "archive"
        _write_folder(folder, scratch / "rows.arrow", transactions, labels, source)
        _to_disk(folder)
        if (path / MANIFEST_NAME).is_file():
            verify(folder)
            exchange(folder, path)
        else:
            folder.rename(path)
    except OSError as error:
        if error.errno in _DISK:
            reason = f"{path.parent} cannot take the archive ({error.strerror})"
            raise Unready(f"{reason}: make room there, or give another folder.") from error
        raise
    finally:
        if scratch is not None:
            shutil.rmtree(scratch)


_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


def _check_target(path: Path, replace: bool) -> None:
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / MANIFEST_NAME).is_file():
        raise Refused(f"{path} exists and is no archive: give the name of a new folder.")
    if not replace:
        raise Refused(f"{path} holds an archive already: give another folder, or say that it may be replaced.")


def _write_folder(folder: Path, rows_file: Path, transactions: Iterable[Chunk], labels: Labels, source: str) -> None:
    rows, first, last = 0, None, None
    with pa.OSFile(str(rows_file), "wb") as sink, pa.ipc.new_file(sink, TRANSACTION_SCHEMA, options=_LZ4) as writer:
        for group in _by_day(transactions):
            times = group["occurred_at"]
            first = times[0].as_py() if first is None else first
            last = times[-1].as_py()
            rows += group.num_rows
            writer.write_table(group)
    if not rows:
        raise InvalidArchive(f"archive of {source}", "transactions", 0, "one or more: nothing was written")
    known = _prepared(labels() if callable(labels) else labels)
    for part in STORED_SCHEMA:
        (folder / part).mkdir(parents=True)
    with pa.OSFile(str(rows_file)) as stored, pa.ipc.open_file(stored) as reader:
        groups = (pa.Table.from_batches([reader.get_batch(i)]) for i in range(reader.num_record_batches))
        before, occurred_at = _write_transactions(folder / "transactions", groups, known, rows)
    _write_labels(folder / "labels", known.append_column("occurred_at", pa.array(occurred_at)), before, rows)
    sums = sums_of(folder)
    (folder / SUMS_NAME).write_bytes(sums)
    manifest = Manifest(
        format=FORMAT,
        source=source,
        rows=rows,
        labels=known.num_rows,
        first_occurred_at=first,
        last_occurred_at=last,
        digest=digest_of(sums),
    )
    write_manifest(folder, manifest)


def _to_disk(folder: Path) -> None:
    """Have the disk keep every file of a folder before the folder gets its name."""
    for path in sorted(folder.rglob("*"), reverse=True):
        sync(path)
    sync(folder)


_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")


def _by_day(chunks: Iterable[Chunk]) -> Iterator[pa.Table]:
    """Tables of one UTC day and at most GROUP_ROWS rows each, filled up before the next one begins."""
    held: list[pa.Table] = []
    held_rows, held_day, last = 0, 0, 0
    for chunk in chunks:
        table = _conformed(chunk, TRANSACTION_SCHEMA, "transactions")
        times = table["occurred_at"].to_numpy()
        _check_order(table, times, last)
        for start, stop in _day_runs(times):
            day = int(times[start]) // DAY_US
            if held and day != held_day:
                yield pa.concat_tables(held).combine_chunks()
                held, held_rows = [], 0
            held_day, last = day, int(times[stop - 1])
            taken = start
            while taken < stop:
                part = table.slice(taken, min(stop - taken, GROUP_ROWS - held_rows))
                held.append(part)
                held_rows, taken = held_rows + part.num_rows, taken + part.num_rows
                if held_rows == GROUP_ROWS:
                    yield pa.concat_tables(held).combine_chunks()
                    held, held_rows = [], 0
    if held:
        yield pa.concat_tables(held).combine_chunks()


def _check_order(table: pa.Table, times: np.ndarray, last: int) -> None:
    falls = np.flatnonzero(np.diff(times, prepend=last) < 0)
    if len(falls):
        row = int(falls[0])
        subject = f"transaction {table['transaction_id'][row].as_py()}"
        previous = last if row == 0 else int(times[row - 1])
        raise InvalidArchive(subject, "occurred_at", int(times[row]), f"{previous} or later: arrival order")


def _day_runs(times: np.ndarray) -> Iterator[tuple[int, int]]:
    """Half-open ranges of rows that share a UTC day; times never fall."""
    if len(times):
        edges = np.flatnonzero(np.diff(times // DAY_US)) + 1
        yield from itertools.pairwise([0, *edges.tolist(), len(times)])


def _conformed(chunk: Chunk, schema: pa.Schema, part: str) -> pa.Table:
    table = pa.Table.from_batches([chunk]) if isinstance(chunk, pa.RecordBatch) else chunk
    if sorted(table.schema.names) != sorted(schema.names):
        raise InvalidArchive(part, "columns", table.schema.names, "exactly " + ", ".join(schema.names))
    table = table.select(schema.names).cast(schema)
    for name in schema.names:
        if table[name].null_count and name not in ("latitude_e6", "longitude_e6"):
            raise InvalidArchive(part, name, None, "a value in every row")
    return table


def _prepared(labels: pa.Table) -> pa.Table:
    table = _conformed(labels, LABEL_SCHEMA, "labels")
    return table.take(np.argsort(table["known_at"].to_numpy(), kind="stable")).combine_chunks()


def _write_transactions(
    folder: Path, groups: Iterable[pa.Table], labels: pa.Table, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Write the days' files. Returns int64 [labels] twice: how many transactions arrived before or together with each
    label, and the time of the transaction that it speaks of.
    """
    known_at = labels["known_at"].to_numpy()
    total, done, matched = rows + len(known_at), 0, 0
    before, occurred_at = np.zeros(len(known_at), np.int64), np.zeros(len(known_at), np.int64)
    for day, of_day in itertools.groupby(groups, lambda group: int(group["occurred_at"][0].as_py()) // DAY_US):
        with _writer(folder, "transactions", day) as writer:
            for group in of_day:
                times = group["occurred_at"].to_numpy()
                position = np.arange(done, done + len(times)) + np.searchsorted(known_at, times, side="left")
                inside, after = np.searchsorted(known_at, [times[0], times[-1]])
                before[inside:after] += np.searchsorted(times, known_at[inside:after], side="right")
                before[after:] += len(times)
                matched += _check_labelled(group, labels, occurred_at)
                numbered = group.add_column(0, "sequence", pa.array(position - total))
                writer.write_table(numbered, row_group_size=GROUP_ROWS)
                done += len(times)
    if matched != len(pc.unique(labels["transaction_id"])):
        raise InvalidArchive("labels", "transaction_id", f"{matched} found", "each the id of exactly one transaction")
    return before, occurred_at


def _check_labelled(group: pa.Table, labels: pa.Table, occurred_at: np.ndarray) -> int:
    """How many transactions of a group are labelled; a label must repeat its account and merchant, and come later.

    occurred_at: int64 [labels], of each label's transaction, which is filled in.
    """
    labelled = group.filter(pc.is_in(group["transaction_id"], labels["transaction_id"]))
    if not labelled.num_rows:
        return 0
    pairs = labels.join(labelled, "transaction_id", right_suffix="_paid", join_type="inner")
    wrong = pairs.filter(
        pc.or_(
            pc.or_(
                pc.not_equal(pairs["account_id"], pairs["account_id_paid"]),
                pc.not_equal(pairs["merchant_id"], pairs["merchant_id_paid"]),
            ),
            pc.less(pairs["known_at"], pairs["occurred_at"]),
        )
    )
    if wrong.num_rows:
        allowed = "its transaction's account and merchant, and a known_at not before its occurred_at"
        raise InvalidArchive("labels", "label_id", wrong["label_id"][0].as_py(), allowed)
    row = pc.index_in(labels["transaction_id"], labelled["transaction_id"].combine_chunks())
    found = np.flatnonzero(np.asarray(pc.is_valid(row)))
    occurred_at[found] = labelled["occurred_at"].to_numpy()[np.asarray(pc.fill_null(row, 0))[found]]
    return int(labelled.num_rows)


def _write_labels(folder: Path, labels: pa.Table, before: np.ndarray, rows: int) -> None:
    total = rows + labels.num_rows
    numbered = labels.add_column(0, "sequence", pa.array(before + np.arange(labels.num_rows) - total))
    known_at = labels["known_at"].to_numpy()
    for start, stop in _day_runs(known_at):
        with _writer(folder, "labels", int(known_at[start]) // DAY_US) as writer:
            writer.write_table(numbered.slice(start, stop - start).combine_chunks(), row_group_size=GROUP_ROWS)


_REPEATED = {
    "transactions": ["account_id", "merchant_id", "device_id", "currency", "channel", "mcc", "country"],
    "labels": ["verdict", "source", "note"],
}
_STEPPED = {"transactions": ["sequence", "occurred_at"], "labels": ["sequence", "known_at", "occurred_at"]}


def _writer(folder: Path, part: str, day: int) -> pq.ParquetWriter:
    name = f"day={datetime.date(1970, 1, 1) + datetime.timedelta(days=day)}.parquet"
    return pq.ParquetWriter(
        folder / name,
        STORED_SCHEMA[part],
        compression="zstd",
        use_dictionary=_REPEATED[part],
        column_encoding=dict.fromkeys(_STEPPED[part], "DELTA_BINARY_PACKED"),
    )
