"""Training examples on disk: shards of fixed-length records in time order, beside a manifest that vouches for them.

    FOLDER/examples-00000.bin   up to 4,096 records; a record is numbers float32 [K], categories int32 [C],
    FOLDER/examples-00001.bin   fraud float32, weight float32, little-endian, without a header
    FOLDER/manifest.json        rows and SHA-256 of every shard, sizes of a record, vocabularies' sizes, fingerprint

Rows are written once, as they leave the exported transform, and need never fit in memory again: any run of rows is a
run of bytes, which is what lets an epoch read them in any order (`training.order`) and a killed training go on in the
middle of one (`training.feed`).
"""

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from features.grammar import Declaration
from plumbline.errors import Refused
from training.dataset import Examples, joined

MANIFEST: Final = "manifest.json"
ROWS_A_SHARD: Final = 4096
"""A megabyte or so: a shard is read whole, at one stroke. (TensorFlow's readers get to a place in a larger file by
reading all that comes before it: measured, 5 ms for a block in the middle of 34 MB.)"""
FORMAT: Final = 1
SAMPLED_ROWS: Final = 500_000
"""As many rows tell where the steps of a number should end."""


class Totals(msgspec.Struct, frozen=True):
    """Frauds among some rows, the sum of all weights, and of the frauds' weights."""

    frauds: int
    weight: float
    fraud_weight: float

    def plus(self, other: "Totals") -> "Totals":
        """Of both."""
        return Totals(self.frauds + other.frauds, self.weight + other.weight, self.fraud_weight + other.fraud_weight)


class Shard(msgspec.Struct, frozen=True):
    """One file: its name, rows, SHA-256, and totals."""

    name: str
    rows: int
    sha256: str
    totals: Totals


class Manifest(msgspec.Struct, frozen=True):
    """What lies in a folder of shards; fingerprint of the declaration, sizes of its categories' vocabularies."""

    numbers: int
    categories: int
    fingerprint: str
    vocabulary_sizes: tuple[int, ...]
    shards: tuple[Shard, ...]
    format: int = FORMAT


@dataclass(frozen=True)
class Shards:
    """A folder of examples, opened."""

    folder: Path
    manifest: Manifest

    @property
    def width(self) -> int:
        """Values of 4 bytes in a record."""
        return self.manifest.numbers + self.manifest.categories + 2

    @property
    def paths(self) -> list[str]:
        """The shards' files in order."""
        return [str(self.folder / each.name) for each in self.manifest.shards]

    @property
    def shard_rows(self) -> list[int]:
        """Rows of each shard."""
        return [each.rows for each in self.manifest.shards]

    @property
    def vocabulary_sizes(self) -> list[int]:
        """Values of each category, the unknown one not counted."""
        return list(self.manifest.vocabulary_sizes)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the manifest, and so of every byte."""
        return hashlib.sha256(msgspec.json.encode(self.manifest)).hexdigest()

    def __len__(self) -> int:
        return sum(self.shard_rows)

    def totals(self, rows: slice) -> Totals:
        """Totals of a range of rows."""
        found = Totals(0, 0.0, 0.0)
        for shard, (begin, end) in zip(self.manifest.shards, self._within(rows), strict=True):
            if (begin, end) == (0, shard.rows):
                found = found.plus(shard.totals)
            elif begin < end:
                truth = np.ascontiguousarray(self._records(shard)[begin:end, -2:]).view(np.float32)
                found = found.plus(_totals(truth[:, 0], truth[:, 1]))
        return found

    def sample(self, rows: slice, most: int = SAMPLED_ROWS) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Numbers float32 [m, K] and frauds float32 [m] of a range of rows: of all, or `most` or fewer of them at equal
        distances."""
        every = max(1, -(-(rows.stop - rows.start) // most))
        numbers, frauds = [], []
        for shard, (begin, end), before in zip(
            self.manifest.shards, self._within(rows), _starts(self.shard_rows), strict=True
        ):
            first = begin + -(before + begin - rows.start) % every
            records = self._records(shard)[first:end:every]
            numbers.append(np.ascontiguousarray(records[:, : self.manifest.numbers]).view(np.float32))
            frauds.append(np.ascontiguousarray(records[:, -2]).view(np.float32))
        return np.concatenate(numbers), np.concatenate(frauds)

    def number(self, index: int) -> npt.NDArray[np.float32]:
        """One column of the numbers, float32 [n]."""
        return np.concatenate([self._records(each)[:, index].copy().view(np.float32) for each in self.manifest.shards])

    def category(self, index: int) -> npt.NDArray[np.int32]:
        """One column of the categories, int32 [n]."""
        at = self.manifest.numbers + index
        return np.concatenate([self._records(each)[:, at].copy() for each in self.manifest.shards])

    def examples(self) -> Examples:
        """Every row, in memory."""
        parts, numbers = [], self.manifest.numbers
        for shard in self.manifest.shards:
            records = np.array(self._records(shard))
            parts.append(
                Examples(
                    records[:, :numbers].view(np.float32),
                    records[:, numbers:-2],
                    records[:, -2].copy().view(np.float32),
                    records[:, -1].copy().view(np.float32),
                )
            )
        return joined(parts)

    def _within(self, rows: slice) -> list[tuple[int, int]]:
        """The part of a range of rows that lies in each shard, by rows of that shard."""
        ends = zip(_starts(self.shard_rows), self.shard_rows, strict=True)
        return [(min(max(rows.start - at, 0), n), max(min(rows.stop - at, n), 0)) for at, n in ends]

    def _records(self, shard: Shard) -> npt.NDArray[np.int32]:
        return np.memmap(self.folder / shard.name, np.dtype("<i4"), "r", shape=(shard.rows, self.width))


def write_shards(
    folder: Path,
    parts: Iterable[Examples],
    vocabulary_sizes: Sequence[int],
    fingerprint: str = "",
    rows_a_shard: int = ROWS_A_SHARD,
) -> Shards:
    """Write examples, a part at a time and in time order, into a folder that appears at one stroke when all are there.

    fingerprint: of the declaration that they were computed under. Raises Refused when there is no row, when the folder
    holds something already, or when the disk is full.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Refused(f"{folder} holds something already: examples are written into an empty folder or a new one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        writer = _Writer(scratch, rows_a_shard)
        for part in parts:
            writer.add(part)
        writer.close()
        if not writer.shards:
            raise Refused("there is not one row to train on: choose days that hold transactions with a known truth")
        manifest = Manifest(
            writer.numbers, writer.categories, fingerprint, tuple(map(int, vocabulary_sizes)), tuple(writer.shards)
        )
        (scratch / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        scratch.rename(folder)
    except OSError as error:
        raise Refused(f"examples cannot be written to {folder}: {error.strerror}; make room and start again") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Shards(folder, manifest)


def open_shards(folder: Path, declaration: Declaration | None = None) -> Shards:
    """The examples in a folder, every byte of them checked against the manifest.

    Raises Refused when there are none, when a file is missing, cut or changed, or when another declaration made them.
    """
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise Refused(f"{folder} holds no examples: {MANIFEST} cannot be read ({error})") from error
    if manifest.format != FORMAT:
        raise Refused(
            f"{folder} holds examples of format {manifest.format}; this release reads {FORMAT}: write them anew"
        )
    if declaration is not None and manifest.fingerprint != declaration.fingerprint:
        made = manifest.fingerprint or "none"
        raise Refused(f"examples in {folder} are of declaration {made}, not {declaration.fingerprint}: write them anew")
    found = Shards(folder, manifest)
    for shard in manifest.shards:
        file = folder / shard.name
        size, expected = file.stat().st_size if file.exists() else -1, shard.rows * found.width * 4
        if size != expected:
            has = f"{size} bytes" if size >= 0 else "gone"
            raise Refused(
                f"{file} is {has} and should be {expected} bytes: delete {folder} and write the examples anew"
            )
        with file.open("rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != shard.sha256:
                raise Refused(f"{file} was changed since it was written: delete {folder} and write the examples anew")
    return found


class _Writer:
    """Appends examples to a shard until it is full, then to the next one."""

    def __init__(self, folder: Path, rows_a_shard: int) -> None:
        self._folder, self._rows_a_shard = folder, rows_a_shard
        self._waiting: list[Examples] = []
        self._rows = 0
        self.shards: list[Shard] = []
        self.numbers = self.categories = 0

    def add(self, part: Examples) -> None:
        while len(part):
            room = self._rows_a_shard - self._rows
            self._waiting.append(part.take(slice(0, room)))
            self._rows += len(self._waiting[-1])
            part = part.take(slice(room, len(part)))
            if self._rows == self._rows_a_shard:
                self.close()

    def close(self) -> None:
        if not self._waiting:
            return
        rows, self._waiting, self._rows = joined(self._waiting), [], 0
        self.numbers, self.categories = rows.numbers.shape[1], rows.categories.shape[1]
        columns = (rows.numbers, rows.categories, rows.frauds[:, None], rows.weights[:, None])
        records = np.concatenate([np.ascontiguousarray(each).view(np.int32) for each in columns], axis=1)
        content = records.astype("<i4", copy=False).tobytes()
        name = f"examples-{len(self.shards):05}.bin"
        with (self._folder / name).open("wb") as file:
            file.write(content)
        digest = hashlib.sha256(content).hexdigest()
        self.shards.append(Shard(name, len(rows), digest, _totals(rows.frauds, rows.weights)))


def _starts(lengths: Sequence[int]) -> list[int]:
    """Where each of some runs begins that lie one behind the other."""
    return [0, *np.cumsum(lengths[:-1]).tolist()]


def _totals(frauds: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> Totals:
    weighed = weights.astype(np.float64)
    return Totals(int(np.count_nonzero(frauds)), float(weighed.sum()), float(weighed @ frauds))
