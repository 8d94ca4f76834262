"""One transaction's past: the arrivals that its history is made of, from the archive and the journal before it.

Only entries of the same account, merchant or device can count. They are picked by their raw bytes before anything is
decoded, so that a long journal is passed over at the speed of its reader.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from kafka import TopicPartition

from archive.layout import open_archive
from archive.rows import labels_of, transactions_of
from features.grammar import Declaration, from_fields
from features.history import Integers
from features.sweep import History
from plumbline import journal
from plumbline.assignment import Assignment
from plumbline.decision import Decision, Source
from plumbline.errors import TransactionNotFound
from plumbline.journal import Answered, AssignmentApplied, ControlApplied, Entry, LabelApplied
from plumbline.names import Topic
from plumbline.policy import Policy
from plumbline.transaction import Transaction
from streaming.arrivals import arrivals
from streaming.kafka import end_offsets, reader

POLL_MS: Final = 500
MOST_RECORDS: Final = 5_000
ANSWERED_WITHIN: Final = 50_000
"""Entries behind a decision among which its shadows' answers are looked for; scorers let it wait for far fewer."""

_ASSIGNMENT: Final = b'{"type":"assignment"'
_CONTROL: Final = b'{"type":"control"'
_ANSWERED: Final = b'{"type":"answered"'
_ARCHIVE: Final = Source("archive", 0, 0, 0)

Arrival = Transaction | Decision | LabelApplied


@dataclass(frozen=True, slots=True)
class Journal:
    """Where the journal is."""

    bootstrap: str
    prefix: str

    @property
    def partition(self) -> TopicPartition:
        """Its one partition."""
        return TopicPartition(self.prefix + Topic.DECISIONS.value, 0)

    def records(self, first: int, stop: int) -> Iterator[Any]:
        """Committed records from sequence `first` to before `stop`, which is at most the journal's end, in order."""
        partition = self.partition
        with closing(reader(self.bootstrap, {partition: first}, most_records=MOST_RECORDS)) as consumer:
            while consumer.position(partition) < stop:
                for polled in consumer.poll(timeout_ms=POLL_MS).values():
                    yield from (each for each in polled if each.offset < stop)

    def end(self) -> int:
        """The offset after its newest entry. Raises BrokerUnavailable, NotFound."""
        return end_offsets(self.bootstrap, [self.partition.topic])[self.partition]


@dataclass(frozen=True, slots=True)
class Sources:
    """What a replay reads: the journal, the archive before it (None: none; until_us: how far), and models' files."""

    journal: Journal
    archive: Path | None
    until_us: int | None
    models: Path


def find(where: Journal, transaction_id: str, hint: int | None = None) -> tuple[int, Decision]:
    """The decision on a transaction and its sequence number; hint: where SQL says that it is.

    Raises TransactionNotFound.
    """
    end = where.end()
    ranges = [(0, end)]
    if hint is not None and 0 <= hint < end:
        ranges.insert(0, (hint, hint + 1))
    wanted = msgspec.json.encode(transaction_id)
    for first, stop in ranges:
        for record in where.records(first, stop):
            if wanted in record.value:
                entry = journal.decode(record.value)
                if isinstance(entry, Decision) and entry.transaction.transaction_id == transaction_id:
                    return record.offset, entry
    raise TransactionNotFound(
        f"transaction {transaction_id!r} has no decision in the journal up to entry {end - 1}: check the id; a message "
        "that was refused or sent twice has none of its own"
    )


@dataclass(frozen=True, slots=True)
class Past:
    """What was before a decision: its history, int64 [1, measures] by declaration, the policies journaled by then, and
    the assignment in force.
    """

    histories: dict[str, Integers]
    policies: dict[str, Policy]
    assignment: Assignment | None


def past_of(sources: Sources, sequence: int, decision: Decision, declared: Mapping[str, Declaration]) -> Past:
    """Everything before a decision; declared: the declarations of then by fingerprint, the deciding one first."""
    histories = {name: History(each) for name, each in declared.items()}
    policies: dict[str, Policy] = {}
    assignment: Assignment | None = None

    def advance(rows: Sequence[Arrival]) -> dict[str, Integers]:
        taken = arrivals(rows)
        return {name: history.advance(taken) for name, history in histories.items()}

    if sources.archive is not None:
        for part in _of_archive(sources.archive, sources.until_us, decision.transaction):
            advance(part)
    chunk: list[Arrival] = []
    for entry in _of_journal(sources.journal, sequence, decision.transaction):
        if isinstance(entry, ControlApplied):
            policies[entry.policy.version] = entry.policy
        elif isinstance(entry, AssignmentApplied):
            assignment = entry.assignment
        elif isinstance(entry, Decision) or (isinstance(entry, LabelApplied) and entry.effect == "counted"):
            chunk.append(entry)
        if len(chunk) >= MOST_RECORDS:
            advance(chunk)
            chunk = []
    newest = advance([*chunk, decision])
    return Past({name: history[-1:] for name, history in newest.items()}, policies, assignment)


def shadows_of(where: Journal, sequence: int, shadows: Collection[int]) -> dict[int, float | None]:
    """What each of these shadows said of a decision; None where it gave no score; those that have not answered lack."""
    found: dict[int, float | None] = {}
    for record in where.records(sequence + 1, min(where.end(), sequence + 1 + ANSWERED_WITHIN)) if shadows else ():
        if record.value.startswith(_ANSWERED):
            entry = journal.decode(record.value)
            if isinstance(entry, Answered) and sequence in entry.sequences:
                values = entry.values or (None,) * entry.rows
                found[entry.version] = values[entry.sequences.index(sequence)]
        if len(found) == len(shadows):
            break
    return found


def declarations_journaled(where: Journal, sequence: int) -> dict[str, Declaration]:
    """Every declaration that the journal brought into force before a sequence number, by fingerprint."""
    found: dict[str, Declaration] = {}
    for record in where.records(0, sequence):
        if record.value.startswith(_ASSIGNMENT):
            entry = journal.decode(record.value)
            if isinstance(entry, AssignmentApplied):
                found |= {name: from_fields(fields) for name, fields in entry.declarations.items()}
    return found


def _of_journal(where: Journal, stop: int, paid: Transaction) -> Iterator[Entry]:
    ids = {paid.account_id, paid.merchant_id, paid.device_id} - {""}
    wanted = [msgspec.json.encode(each) for each in ids]
    for record in where.records(0, stop):
        if record.value.startswith((_ASSIGNMENT, _CONTROL)) or any(each in record.value for each in wanted):
            yield journal.decode(record.value)


def _of_archive(path: Path, until_us: int | None, paid: Transaction) -> Iterator[list[Arrival]]:
    """The archive's arrivals that share a party with the transaction, in arrival order, in chunks."""
    archive = open_archive(path)
    labels = _frauds(archive.labels(until_us=until_us), paid)
    for batch in archive.transactions(until_us=until_us):
        mask = _shares(batch, paid, ("account_id", "merchant_id", "device_id"))
        kept = batch.filter(mask)
        if kept.num_rows:
            sequences = np.asarray(kept.column("sequence")).tolist()
            chunk: list[Arrival] = []
            for sequence, transaction in zip(sequences, transactions_of(kept), strict=True):
                while labels and labels[0][0] < sequence:
                    chunk.append(labels.pop(0)[1])
                chunk.append(transaction)
            yield chunk
    if labels:
        yield [label for _, label in labels]


def _frauds(labels: pa.Table, paid: Transaction) -> list[tuple[int, LabelApplied]]:
    """Fraud labels of the account or the merchant, the first of each transaction, with their sequence numbers."""
    kept = labels.filter(
        pc.and_(pc.equal(labels.column("verdict"), "fraud"), _shares(labels, paid, ("account_id", "merchant_id")))
    )
    found: list[tuple[int, LabelApplied]] = []
    seen: set[str] = set()
    for batch in kept.to_batches():
        columns = (batch.column(name).to_pylist() for name in ("sequence", "account_id", "merchant_id", "occurred_at"))
        for sequence, account, merchant, occurred_at, label in zip(*columns, labels_of(batch), strict=True):
            if label.transaction_id not in seen:
                seen.add(label.transaction_id)
                applied = LabelApplied(
                    label=label, source=_ARCHIVE, effect="counted", account_id=account, merchant_id=merchant,
                    occurred_at=occurred_at, journaled_at=label.known_at,
                )  # fmt: skip
                found.append((sequence, applied))
    return found


def _shares(rows: pa.Table | pa.RecordBatch, paid: Transaction, parties: tuple[str, ...]) -> Any:
    """Where a row names a party of the transaction; an empty device is nobody's."""
    mask = None
    for name in parties:
        if value := getattr(paid, name):
            same = pc.equal(rows.column(name), value)
            mask = same if mask is None else pc.or_(mask, same)
    return mask
