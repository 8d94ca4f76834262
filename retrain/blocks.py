"""Blocks of a kept journal as columns: what training needs of them, decoded once and kept.

    CACHE/SHA16/transactions.parquet    every decided transaction, ascending by sequence
    CACHE/SHA16/labels.parquet          every label as it became known, ascending by sequence
    CACHE/SHA16/block.json              the block's digest, and how many transactions it has of each UTC day

A block never changes, so neither does what is made of it: a night decodes the blocks that were kept since the last one.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Meta

from archive.kept import Block, KeptJournal
from archive.manifest import TRANSACTION_SCHEMA, file_sha256
from plumbline.decision import DeclaredHistory, Outcome
from plumbline.errors import InvalidArchive, JournalRefused, Unready
from plumbline.journal import LabelApplied
from plumbline.transaction import DAY_US, Transaction
from plumbline.weights import inverse_probability

FORMAT: Final = 2
TRANSACTIONS: Final = pa.schema(
    [pa.field("sequence", pa.int64()), *TRANSACTION_SCHEMA, pa.field("at", pa.int64()),
     pa.field("outcome", pa.string()), pa.field("weight", pa.float64())]
)  # fmt: skip
"""at: when it was decided; weight: how many decisions it stands for in a test, by its probability; 0 for a decline."""
LABELS: Final = pa.schema(
    [("sequence", pa.int64()), ("label_id", pa.string()), ("transaction_id", pa.string()), ("account_id", pa.string()),
     ("merchant_id", pa.string()), ("verdict", pa.string()), ("source", pa.string()), ("by", pa.string()),
     ("known_at", pa.int64()), ("effect", pa.string()), ("again", pa.bool_()), ("at", pa.int64()),
     ("occurred_at", pa.int64())]
)  # fmt: skip
"""again: the second entry of a label that waited for its transaction; at: when it was journaled; occurred_at: when its
transaction was, 0 where that was not remembered."""

_DECISION: Final = b'{"type":"decision"'
_LABEL: Final = b'{"type":"label"'


class _Decided(msgspec.Struct, gc=False, tag="decision"):
    """Of a decision what is no history."""

    transaction: Transaction
    outcome: Outcome
    decided_at: int
    sample_per_mille: int = 0


class _Occurred(msgspec.Struct, gc=False):
    """Of a transaction when it was."""

    occurred_at: int


class Logged(msgspec.Struct, gc=False, tag="decision"):
    """Of a decision its histories."""

    transaction: _Occurred
    history: tuple[int, ...]
    fingerprint: str
    other_histories: tuple[DeclaredHistory, ...] = ()

    def under(self, fingerprint: str) -> tuple[int, ...] | None:
        """The history recorded under a declaration; None where that one was not in force."""
        if fingerprint == self.fingerprint:
            return self.history
        return next((each.values for each in self.other_histories if each.fingerprint == fingerprint), None)


class Decoded(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`block.json`: days are numbers of days since 1970, as text, and transactions of each."""

    format: int = FORMAT
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    days: dict[str, int]
    files: dict[str, str]


def folder_of(cache: Path, block: Block) -> Path:
    """Where a block's columns are kept."""
    return cache / block.sha256[:16]


def read_decoded(cache: Path, block: Block) -> Decoded | None:
    """What was made of a block; None where it has to be made (again)."""
    folder = folder_of(cache, block)
    try:
        found = msgspec.json.decode((folder / "block.json").read_bytes(), type=Decoded)
        whole = all(file_sha256(folder / name) == sha256 for name, sha256 in found.files.items())
    except (OSError, msgspec.MsgspecError):
        return None
    return found if whole and found.format == FORMAT and found.sha256 == block.sha256 else None


def decode_block(journal: KeptJournal, block: Block, cache: Path) -> Decoded:
    """Make a block's columns, in a folder that gets its name when it is complete.

    Raises InvalidArchive for a block that is gone or was changed, JournalRefused for a record that is no entry, Unready
    when the disk is full.
    """
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".decoding-", dir=cache))
    files = ("transactions.parquet", "labels.parquet")
    days: Counter[int] = Counter()
    try:
        with (
            pq.ParquetWriter(scratch / files[0], TRANSACTIONS, compression="zstd") as transactions,
            pq.ParquetWriter(scratch / files[1], LABELS, compression="zstd") as labels,
        ):
            for batch in journal.batches(block, ("sequence", "value")):
                decided, told = _columns(batch)
                days.update(each // DAY_US for each in decided.column("occurred_at").to_pylist())
                transactions.write_table(decided)
                labels.write_table(told)
        found = Decoded(
            sha256=block.sha256,
            days={str(day): rows for day, rows in sorted(days.items())},
            files={name: file_sha256(scratch / name) for name in files},
        )
        (scratch / "block.json").write_bytes(msgspec.json.encode(found))
        folder = folder_of(cache, block)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        scratch.rename(folder)
    except OSError as error:
        raise Unready(f"{cache} cannot take columns of the journal ({error.strerror}): make room there") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return found


def read_columns(cache: Path, block: Block, name: str, stop: int, **read: Any) -> pa.Table:
    """`transactions` or `labels` of a block before sequence number `stop`; read: more for pyarrow's read_table."""
    filters = [*read.pop("filters", []), ("sequence", "<", stop)]
    file = folder_of(cache, block) / f"{name}.parquet"
    try:
        return pq.read_table(file, filters=filters, **read)
    except (OSError, pa.ArrowInvalid) as error:
        raise InvalidArchive("columns of the journal", "file", str(file), f"readable; remove it ({error})") from error


def histories(journal: KeptJournal, block: Block, stop: int) -> Iterator[tuple[int, Logged]]:
    """Sequence number and histories of every decision of a block before `stop`; raises as `decode_block`."""
    decoder = msgspec.json.Decoder(Logged)
    for batch in journal.batches(block, ("sequence", "value")):
        for sequence, value in zip(*(each.to_pylist() for each in batch.columns), strict=True):
            if value is not None and value.startswith(_DECISION) and sequence < stop:
                yield sequence, _decoded(decoder, sequence, value)


def _columns(batch: pa.RecordBatch) -> tuple[pa.Table, pa.Table]:
    decisions: list[tuple[int, _Decided]] = []
    labels: list[tuple[int, LabelApplied]] = []
    decision_of, label_of = msgspec.json.Decoder(_Decided), msgspec.json.Decoder(LabelApplied)
    for sequence, value in zip(*(each.to_pylist() for each in batch.columns), strict=True):
        if value is None:  # a message that was passed over
            continue
        if value.startswith(_DECISION):
            decisions.append((sequence, _decoded(decision_of, sequence, value)))
        elif value.startswith(_LABEL):
            labels.append((sequence, _decoded(label_of, sequence, value)))
    paid: dict[str, list[Any]] = {"sequence": [sequence for sequence, _ in decisions]}
    paid |= {name: [getattr(each.transaction, name) for _, each in decisions] for name in TRANSACTION_SCHEMA.names}
    paid |= {
        "at": [each.decided_at for _, each in decisions],
        "outcome": [each.outcome.value for _, each in decisions],
        "weight": [inverse_probability(each.outcome, each.sample_per_mille) for _, each in decisions],
    }
    told: dict[str, list[Any]] = {"sequence": [sequence for sequence, _ in labels]}
    of_label = ("label_id", "transaction_id", "verdict", "source", "by", "known_at")
    told |= {name: [getattr(each.label, name) for _, each in labels] for name in of_label}
    told |= {
        name: [getattr(each, name) for _, each in labels]
        for name in ("account_id", "merchant_id", "effect", "occurred_at")
    }
    told |= {"again": [each.source is None for _, each in labels], "at": [each.journaled_at for _, each in labels]}
    return pa.table(paid, schema=TRANSACTIONS), pa.table(told, schema=LABELS)


def _decoded(decoder: Any, sequence: int, value: bytes) -> Any:
    try:
        return decoder.decode(value)
    except msgspec.MsgspecError as error:
        raise JournalRefused(f"journal entry {sequence} cannot be read ({error}): it is none of ours") from error
