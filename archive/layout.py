"""The one layout in which past transactions and labels are kept: Parquet by UTC day, in arrival order.

    DIR/archive.json                              the manifest: what it holds, and the digest over all of it
    DIR/SHA256SUMS                                every data file's SHA-256
    DIR/transactions/day=YYYY-MM-DD.parquet       a day's transactions, ascending by `sequence`
    DIR/labels/day=YYYY-MM-DD.parquet             the labels that became known on that day, ascending by `sequence`

`sequence` is the arrival order over transactions and labels together. It is negative and ends at -1, since an archive
is what happened before the journal's first record (sequence 0). `archive.write` makes archives; this module reads them.
"""

import datetime
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from archive.manifest import (
    ARRIVAL,
    LABEL_SCHEMA,
    PARTS,
    STORED_SCHEMA,
    TRANSACTION_SCHEMA,
    Manifest,
    read_manifest,
)
from archive.verify import FileDigests, check_sequence, listed_files
from archive.write import Chunk, Labels
from archive.write import write_archive as _write
from plumbline.errors import InvalidArchive, Refused
from plumbline.transaction import DAY_US

__all__ = [
    "LABEL_SCHEMA",
    "TRANSACTION_SCHEMA",
    "Archive",
    "Manifest",
    "open_archive",
    "verified_archive",
    "write_archive",
]

BATCH_ROWS = 65_536
_EPOCH = datetime.date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive on disk, as `open_archive` gives it; only the manifest and the files' digests are held in memory.

    A file is compared with its digest before its first row is read, so nobody computes from a file that was changed.
    """

    path: Path
    manifest: Manifest
    digests: FileDigests = field(compare=False, repr=False)

    def transactions(
        self, since_us: int | None = None, until_us: int | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Transactions in arrival order, a RecordBatch of at most 65,536 rows at a time, none empty.

        since_us, until_us: half-open range of `occurred_at`, microseconds since 1970 UTC; None is unbounded.
        columns: names to read, in the order wanted (all, led by `sequence`, when None).
        Raises InvalidArchive for an unknown column or a file that cannot be read.
        """
        return self._batches("transactions", since_us, until_us, columns)

    def labels(
        self, since_us: int | None = None, until_us: int | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Labels in arrival order, as one table; the range is half-open on `known_at`. Raises as `transactions`."""
        schema = _selected("labels", columns)
        return pa.Table.from_batches(self._batches("labels", since_us, until_us, columns), schema=schema)

    def arrivals(
        self, since_us: int | None = None, until_us: int | None = None
    ) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Transactions and labels merged by `sequence`: pairs ("transactions" or "labels", their next rows).

        Each RecordBatch is the longest run of one kind (at most 65,536 rows), a view with no copy; the range is
        half-open on the arrival time of either kind.
        """
        labels = self._batches("labels", since_us, until_us, None)
        waiting = next(labels, None)
        for batch in self._batches("transactions", since_us, until_us, None):
            sequence = _int64(batch, "sequence")
            start = 0
            while start < len(sequence):
                while waiting is not None and _int64(waiting, "sequence")[0] < sequence[start]:
                    numbers = _int64(waiting, "sequence")
                    stop = int(np.searchsorted(numbers, sequence[start]))
                    yield "labels", waiting.slice(0, stop)
                    waiting = waiting.slice(stop) if stop < len(numbers) else next(labels, None)
                stop = len(sequence)
                if waiting is not None:
                    stop = int(np.searchsorted(sequence, _int64(waiting, "sequence")[0]))
                yield "transactions", batch.slice(start, stop - start)
                start = stop
        while waiting is not None:
            yield "labels", waiting
            waiting = next(labels, None)

    def verify(self) -> None:
        """Read everything and compare it with the manifest and `SHA256SUMS`.

        Raises InvalidArchive, which names the first file that is missing, unexpected, changed or out of order.
        """
        listed_files(self.path, self.manifest)
        self.digests.check_all()
        check_sequence(self.path, self.manifest, {part: self._ordered_sequence(part) for part in PARTS})

    def _ordered_sequence(self, part: str) -> Iterator[np.ndarray]:
        last_time, last_number = -(2**63), -(2**63)
        for file, day_us in self._days(part, None, None):
            for batch in self._read(file, part, ["sequence", ARRIVAL[part]]):
                numbers, times = _int64(batch, "sequence"), _int64(batch, ARRIVAL[part])
                ascending = numbers[0] > last_number and bool((np.diff(numbers) > 0).all())
                in_time = times[0] >= last_time and bool((np.diff(times) >= 0).all())
                in_day = day_us <= times[0] and times[-1] < day_us + DAY_US
                if not (ascending and in_time and in_day):
                    raise self._invalid(f"{part}/{file.name}", "out of order", "rows of its own day, by arrival")
                last_number, last_time = numbers[-1], times[-1]
                yield numbers

    def _read(self, file: Path, part: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Rows of a file whose bytes are those that the archive was written with."""
        self.digests.check(f"{part}/{file.name}")
        yield from _read(file, part, columns)

    def _batches(
        self, part: str, since_us: int | None, until_us: int | None, columns: Sequence[str] | None
    ) -> Iterator[pa.RecordBatch]:
        wanted = _selected(part, columns).names
        arrival = ARRIVAL[part]
        for file, day_us in self._days(part, since_us, until_us):
            cut = (since_us is not None and since_us > day_us) or (until_us is not None and until_us < day_us + DAY_US)
            read = wanted if not cut or arrival in wanted else [*wanted, arrival]
            for batch in self._read(file, part, read):
                if cut:
                    times = _int64(batch, arrival)
                    start = 0 if since_us is None else int(np.searchsorted(times, since_us))
                    stop = len(times) if until_us is None else int(np.searchsorted(times, until_us))
                    kept = batch.slice(start, max(0, stop - start)).select(wanted)
                else:
                    kept = batch
                if kept.num_rows:
                    yield kept

    def _days(self, part: str, since_us: int | None, until_us: int | None) -> Iterator[tuple[Path, int]]:
        for file in sorted((self.path / part).glob("*.parquet")):
            try:
                day = datetime.date.fromisoformat(file.name.removeprefix("day=").removesuffix(".parquet"))
            except ValueError as error:
                raise self._invalid(f"{part}/{file.name}", file.name, "a name like day=2020-01-31.parquet") from error
            day_us = (day - _EPOCH).days * DAY_US
            if (since_us is None or since_us < day_us + DAY_US) and (until_us is None or until_us > day_us):
                yield file, day_us

    def _invalid(self, field: str, value: object, allowed: str) -> InvalidArchive:
        return InvalidArchive(f"archive {self.path}", field, value, allowed)


def open_archive(path: Path | str) -> Archive:
    """The archive in a folder, whose files are those that its SHA256SUMS lists.

    Raises InvalidArchive when there is none, one of another format, or one that lacks a file or has one more.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    return Archive(folder, manifest, FileDigests(folder, listed_files(folder, manifest)))


def verified_archive(path: Path | str) -> Archive:
    """The archive in a folder, once every byte and every sequence number was checked; raises as `Archive.verify`."""
    archive = open_archive(path)
    archive.verify()
    return archive


def require_archive(path: Path | str | None, digest: str) -> Archive:
    """The archive in a folder, verified, which must be the very one that came before the journal.

    Raises Refused, which says where it was looked for, when there is none or it has another digest, InvalidArchive when
    it is not whole.
    """
    wanted = f"the journal began after the archive with digest {digest}"
    do = "put that archive there, or say with PLUMBLINE_ARCHIVE (or --archive) where it is"
    if path is None:
        raise Refused(f"{wanted}, and no place to look for it is given: {do}")
    try:
        archive = open_archive(path)
    except InvalidArchive as error:
        raise Refused(f"{wanted}, but {path} holds no archive ({error}): {do}") from error
    if archive.manifest.digest != digest:
        raise Refused(f"{wanted}, but the archive in {path} has digest {archive.manifest.digest}: {do}")
    archive.verify()
    return archive


def write_archive(
    path: Path | str, transactions: Iterable[Chunk], labels: Labels, source: str, *, replace: bool = False
) -> Archive:
    """Write an archive whole, or leave nothing behind, and open it; arguments and errors as `archive.write`'s.

    One that takes another's place is verified first.
    """
    _write(Path(path), transactions, labels, source, verify=verified_archive, replace=replace)
    return open_archive(path)


def _selected(part: str, columns: Sequence[str] | None) -> pa.Schema:
    schema = STORED_SCHEMA[part]
    if columns is None:
        return schema
    for name in columns:
        if name not in schema.names:
            raise InvalidArchive("archive", "column", name, "one of " + ", ".join(schema.names))
    return pa.schema([schema.field(name) for name in columns])


def _read(file: Path, part: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    schema = _selected(part, columns)
    try:
        with pq.ParquetFile(file) as parquet:
            if parquet.schema_arrow.remove_metadata() != STORED_SCHEMA[part]:
                allowed = f"the columns of {part}: " + ", ".join(STORED_SCHEMA[part].names)
                raise InvalidArchive(f"archive file {file}", "columns", parquet.schema_arrow.names, allowed)
            for batch in parquet.iter_batches(BATCH_ROWS, columns=columns):
                yield batch.select(columns).cast(schema)
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidArchive("archive", "file", str(file), f"readable Parquet ({error})") from error


def _int64(batch: pa.RecordBatch, column: str) -> np.ndarray:
    return np.asarray(batch.column(column).to_numpy(zero_copy_only=True))
