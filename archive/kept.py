"""A kept journal: the journal's records and the messages behind them, copied into files that need no broker.

    FOLDER/journal.json                        the manifest: what is kept, every block's digest, and one over all
    FOLDER/records-000000000000.parquet        a block of records, named by its first sequence number

Blocks are written once and never touched again; the manifest is exchanged at one stroke when a block is complete. So a
folder can be copied, checked and audited at any time, also while more is being kept.
"""

import contextlib
import fcntl
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Meta

from archive.manifest import file_sha256
from archive.record import Record
from plumbline.errors import InvalidArchive, Refused, Unready
from plumbline.journal import opened_in

FORMAT: Final = 1
MANIFEST: Final = "journal.json"
CHUNK_ROWS: Final = 20_000
SCHEMA: Final = pa.schema(
    [
        ("sequence", pa.int64()), ("appended_at_ms", pa.int64()), ("value", pa.binary()),
        ("topic", pa.string()), ("partition", pa.int32()), ("offset", pa.int64()),
        ("message", pa.binary()), ("state", pa.string()),
    ]
)  # fmt: skip


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file: the sequence numbers [first, stop) that it covers, its rows, their first and last time, its digest."""

    file: str
    first: int
    stop: int
    records: Annotated[int, Meta(ge=0)]
    first_at_ms: int
    last_at_ms: int
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The manifest.

    prefix: of the topics; positions: next offset of each source (topic, partition, offset); archive_digest,
    archive_until_us: the archive that came before the journal ("" for none), and how far it was taken.
    """

    format: int = FORMAT
    prefix: str = ""
    archive_digest: str = ""
    archive_until_us: int | None = None
    positions: tuple[tuple[str, int, int], ...] = ()
    blocks: tuple[Block, ...] = ()
    digest: str = ""

    @property
    def stop(self) -> int:
        """The sequence number after the last one kept."""
        return self.blocks[-1].stop if self.blocks else 0


def nothing_kept(prefix: str, archive_digest: str, archive_until_us: int | None) -> Kept:
    """The manifest before the first block."""
    return Kept(prefix=prefix, archive_digest=archive_digest, archive_until_us=archive_until_us, digest=_digest(()))


def read_kept(folder: Path) -> Kept:
    """The manifest of a kept journal; raises InvalidArchive where there is none, or one that is broken."""
    try:
        raw = (folder / MANIFEST).read_bytes()
    except OSError as error:
        allowed = f"a folder with a readable {MANIFEST} ({error.strerror}); make one with `plumbline keep`"
        raise InvalidArchive("kept journal", "folder", str(folder), allowed) from error
    try:
        kept = msgspec.json.decode(raw, type=Kept)
    except msgspec.MsgspecError as error:
        raise InvalidArchive(f"kept journal {folder}", MANIFEST, raw[:80], f"a manifest ({error})") from error
    if kept.format != FORMAT:
        raise InvalidArchive(f"kept journal {folder}", "format", kept.format, f"{FORMAT}, which this release reads")
    if kept.digest != _digest(kept.blocks):
        raise InvalidArchive(f"kept journal {folder}", "digest", kept.digest, "the digest over its list of blocks")
    return kept


class KeptJournal:
    """A kept journal as the audit reads it: every block is checked against its digest before a row of it is used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept = read_kept(folder)

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    @property
    def digest(self) -> str:
        """What stands for all blocks."""
        return self.kept.digest

    def chunks(self) -> Iterator[list[Record]]:
        """Its records in order, some thousands at a time. Raises InvalidArchive for a block that was changed."""
        for block in self.blocks():
            for batch in self.batches(block, SCHEMA.names):
                columns = [batch.column(name).to_pylist() for name in SCHEMA.names]
                yield [Record(*row) for row in zip(*columns, strict=True)]

    def blocks(self) -> Iterator[Block]:
        """Its blocks in order. Raises InvalidArchive where one is missing between two."""
        expected = 0
        for block in self.kept.blocks:
            if block.first != expected:
                raise InvalidArchive(f"kept journal {self.folder}", "blocks", block.first, f"one from {expected} on")
            expected = block.stop
            yield block

    def check(self, block: Block) -> None:
        """Compare a block's file with its digest; raises InvalidArchive where it is gone or was changed."""
        file = self.folder / block.file
        try:
            found = file_sha256(file)
        except OSError as error:
            raise _unreadable(file, error) from error
        if found != block.sha256:
            allowed = f"sha256 {block.sha256}: the file was changed or damaged"
            raise InvalidArchive(f"kept journal {self.folder}", block.file, f"sha256 {found}", allowed)

    def batches(self, block: Block, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of a block's records, in order, once its digest was compared; raises as `check`."""
        self.check(block)
        file = self.folder / block.file
        try:
            with pq.ParquetFile(file) as parquet:
                yield from parquet.iter_batches(CHUNK_ROWS, columns=list(columns))
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(file, error) from error


def append(folder: Path, kept: Kept, first: int, stop: int, chunks: Iterable[Sequence[Record]]) -> Kept:
    """Add the records of [first, stop) as one block, and return the manifest that now stands in the folder.

    first: where the manifest ends. Raises Unready when the disk is full or closed to us; what was kept stays then.
    """
    if first != kept.stop or stop <= first:
        raise AssertionError("a block follows the one before it")
    file = folder / f"records-{first:012d}.parquet"
    unfinished = folder / f".{file.name}.partial"
    records, times, positions = 0, [], {(topic, number): offset for topic, number, offset in kept.positions}
    try:
        with pq.ParquetWriter(unfinished, SCHEMA, compression="zstd", use_dictionary=["topic", "state"]) as writer:
            for chunk in chunks:
                writer.write_table(_table(chunk))
                records += len(chunk)
                times += [chunk[0].appended_at_ms, chunk[-1].appended_at_ms]
                for each in chunk:
                    for opened in opened_in(each.value):
                        if opened.instead_of:  # the topic was created again, and its offsets begin again
                            positions[opened.topic, opened.partition] = opened.first
                    if each.value is not None and each.topic:
                        place = each.topic, each.partition
                        positions[place] = max(positions.get(place, 0), each.offset + 1)
        _sync(unfinished)
        block = Block(
            file.name, first, stop, records, min(times, default=0), max(times, default=0), file_sha256(unfinished)
        )
        unfinished.replace(file)
        blocks = (*kept.blocks, block)
        listed = tuple((topic, number, offset) for (topic, number), offset in sorted(positions.items()))
        complete = msgspec.structs.replace(kept, positions=listed, blocks=blocks, digest=_digest(blocks))
        write_manifest(folder, complete)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise Unready(
            f"{folder} cannot take more of the journal ({error.strerror}): make room or rights there"
        ) from error
    return complete


def write_manifest(folder: Path, kept: Kept) -> None:
    """Exchange the manifest at one stroke."""
    unfinished = folder / f".{MANIFEST}.partial"
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(kept)) + b"\n")
    _sync(unfinished)
    unfinished.replace(folder / MANIFEST)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder, made where it is not there, for one writer; raises Refused while another one holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"another process keeps the journal in {folder} at this moment: let it finish") from None
        yield


def _unreadable(file: Path, error: Exception) -> InvalidArchive:
    return InvalidArchive("kept journal", "file", str(file), f"a readable block ({error})")


def _digest(blocks: Sequence[Block]) -> str:
    """SHA-256 over the blocks as `sha256sum` would list them: digest, two spaces, name."""
    return hashlib.sha256("".join(f"{each.sha256}  {each.file}\n" for each in blocks).encode()).hexdigest()


def _table(chunk: Sequence[Record]) -> pa.Table:
    columns: dict[str, list[Any]] = defaultdict(list)
    for each in chunk:
        for name in SCHEMA.names:
            columns[name].append(getattr(each, name))
    return pa.table([pa.array(columns[each.name], each.type) for each in SCHEMA], schema=SCHEMA)


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
