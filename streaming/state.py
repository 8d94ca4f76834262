"""The scorer's state: a fold of the journal, and nothing else.

A leader and a standby, a restart and the backfill of an archive all come to the same state by taking the same entries
in the same order. A snapshot is a cache of it.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from features.declaration import DECLARATION
from features.grammar import Declaration, from_fields
from features.history import Integers
from features.sweep import Arrivals, Entities, History
from plumbline.assignment import Assignment
from plumbline.decision import Decision, Source
from plumbline.errors import FingerprintMismatch, HistoryMissing, StateDiverged
from plumbline.journal import (
    Answered,
    AssignmentApplied,
    ControlApplied,
    Entry,
    JournalBegun,
    LabelApplied,
    MemoryChanged,
    SourcesOpened,
)
from plumbline.label import Label
from plumbline.policy import MAX_KNOWN_VERSIONS, Policy, content_digest
from plumbline.transaction import Transaction
from streaming.arrivals import arrivals
from streaming.awaited import Awaited
from streaming.known import NEW, Known

BEFORE_JOURNAL: Final = -1
"""The sequence number of a state that has folded no journal entry: only an archive, or nothing."""

WAITING_MOST: Final = 10_000
"""Fraud labels that wait for their transactions; the oldest gives way to the next and is never counted."""

Positions = dict[tuple[str, int], int]

Supply = Callable[[Declaration, int], History]
"""History under a declaration, of everything before the journal entry of that sequence number; see `prepared`."""


@dataclass(slots=True)
class State:
    """Histories, known transactions, what is in force, and how far each source and the journal itself were taken.

    waiting: the first fraud label of each transaction that has not come yet, by its id, the oldest first;
    histories: one a declaration in force, by fingerprint; fingerprints: of the versions that the assignment names, in
    its order; positions: next offset by (topic, partition); sequence: newest journal entry folded;
    archive_digest, archive_until_us: the archive that was folded before the journal's first entry (empty: none), and
    the arrival time up to which it was (None: whole);
    policies: `content_digest` of each policy that was ever active, by its version, the active one last;
    awaited: decisions that wait for a shadow's answer;
    remembered: how many transactions the journal says are remembered (None: it does not say, as older ones do not);
    topic_ids: of the source topics, as journaled; journal: its identity (see `journal.identity`), empty where it has no
    entry yet;
    unassigned: the version that scores as long as nothing was ever assigned: the one that did first;
    only: the declaration that this state prepares, whatever the journal says of others; empty for a scorer's own.
    """

    known: Known
    histories: dict[str, History] = field(default_factory=lambda: {DECLARATION.fingerprint: History(DECLARATION)})
    waiting: dict[str, Label] = field(default_factory=dict)
    policy: Policy | None = None
    policies: dict[str, str] = field(default_factory=dict)
    assignment: Assignment | None = None
    fingerprints: tuple[str, ...] = ()
    positions: Positions = field(default_factory=dict)
    sequence: int = BEFORE_JOURNAL
    archive_digest: str = ""
    archive_until_us: int | None = None
    awaited: Awaited = field(default_factory=Awaited)
    remembered: int | None = None
    topic_ids: dict[str, str] = field(default_factory=dict)
    journal: str = ""
    unassigned: int | None = None
    only: str = ""

    def __post_init__(self) -> None:
        if self.policy is not None:
            self.activate(self.policy)

    @property
    def deciding(self) -> str:
        """Fingerprint of the declaration under which decisions are made."""
        if self.assignment is not None and not self.only:
            return self.fingerprints[0]
        return next(iter(self.histories))

    @property
    def arms(self) -> list[tuple[int, str]]:
        """Version and fingerprint of those that decide for their share of the accounts."""
        if self.assignment is None:
            return []
        versions = [each.version for each in self.assignment.arms]
        return list(zip(versions, self.fingerprints[1 : 1 + len(versions)], strict=True))

    @property
    def shadows(self) -> list[tuple[int, str]]:
        """Version and fingerprint of those that score beside the deciding one."""
        if self.assignment is None:
            return []
        first = 1 + len(self.assignment.arms)
        beside = self.fingerprints[first : first + len(self.assignment.shadows)]
        return list(zip(self.assignment.shadows, beside, strict=True))

    @property
    def history(self) -> History:
        """The deciding declaration's history."""
        return self.histories[self.deciding]

    @property
    def entities(self) -> Entities:
        """The numbers by which all histories know accounts, merchants, devices and pairs."""
        return next(iter(self.histories.values())).entities

    def advance(self, taken: Arrivals) -> dict[str, Integers]:
        """Take n arrivals; returns int64 [n, measures] by declaration."""
        slots = self.entities.slots(taken)
        return {fingerprint: history.take(taken, slots) for fingerprint, history in self.histories.items()}

    def assign(
        self,
        assignment: Assignment | None,
        fingerprints: tuple[str, ...],
        declarations: Mapping[str, Declaration],
        sequence: int,
        supply: Supply | None,
    ) -> None:
        """Bring versions and their declarations into force; histories of other declarations are dropped.

        fingerprints: of each version; declarations: of each fingerprint; sequence: of the journal entry that says so;
        supply: asked for the history of a declaration that was not in force. Raises HistoryMissing, StateDiverged;
        nothing has changed then.
        """
        histories = {}
        for fingerprint, declaration in declarations.items():
            histories[fingerprint] = self.histories.get(fingerprint) or self._joining(declaration, sequence, supply)
        self.histories, self.assignment, self.fingerprints = histories, assignment, fingerprints

    def _joining(self, declaration: Declaration, sequence: int, supply: Supply | None) -> History:
        entities = self.entities
        if not len(entities.keys["account"]):
            return History(declaration, entities)
        if supply is None:
            raise HistoryMissing(
                f"journal entry {sequence} brings declaration {declaration.fingerprint} into force, whose history "
                "is not here: run `plumbline prepare` for a model version of it"
            )
        history = supply(declaration, sequence)
        if not history.entities.same(entities):
            raise StateDiverged(
                f"the history prepared for declaration {declaration.fingerprint} knows other accounts, merchants or "
                "devices than this state: it was prepared from another archive or journal; prepare it again"
            )
        history.entities = entities
        return history

    def activate(self, policy: Policy) -> None:
        """Make a policy the active one, and remember whose version it has."""
        self.policy = policy
        self.policies.pop(policy.version, None)
        self.policies[policy.version] = content_digest(policy)
        if len(self.policies) > MAX_KNOWN_VERSIONS:
            del self.policies[next(iter(self.policies))]

    def note_unassigned(self, decision: Decision) -> None:
        """Note which version scored a decision that no assignment was active for: no newer one takes its place."""
        if decision.route == "newest" and decision.scores:
            self.unassigned = decision.scores[0].model_version

    def take_source(self, source: Source) -> None:
        """Note that a message was taken, so that it is not taken again."""
        self.positions[source.topic, source.partition] = source.offset + 1

    def open(self, entry: SourcesOpened) -> None:
        """Note from where source partitions are taken; offsets of a topic that was created again mean nothing now."""
        again = {each.topic for each in entry.opened if each.instead_of}
        self.positions = {place: offset for place, offset in self.positions.items() if place[0] not in again}
        for each in entry.opened:
            self.positions[each.topic, each.partition] = each.first
            if each.topic_id:
                self.topic_ids[each.topic] = each.topic_id

    def remember(self, limit: int) -> None:
        """Remember so many of the newest transactions from here on, as the journal says."""
        self.known = self.known.of_limit(limit)
        self.remembered = limit

    def admit(self, transactions: Sequence[Transaction]) -> list[int]:
        """NEW, IDENTICAL or DIFFERENT for each of n transactions; new ones are remembered from now on."""
        if not transactions:
            return []
        status, rows = self.known.admit(transactions)
        new = np.flatnonzero(status == NEW).tolist()
        self.known.note(
            rows[new],
            self.entities.keys["account"].slots([transactions[n].account_id for n in new]),
            self.entities.keys["merchant"].slots([transactions[n].merchant_id for n in new]),
            np.array([transactions[n].occurred_at for n in new], np.int64),
        )
        answer: list[int] = status.tolist()
        return answer

    def label(self, label: Label, source: Source, now_us: int) -> LabelApplied:
        """What a label means to history, as the entry to journal; a counted one still has to join an `advance`."""
        row = self.known.find(label.transaction_id)
        applied = functools.partial(LabelApplied, label=label, source=source, journaled_at=now_us)
        if row < 0:
            if label.verdict != "fraud":
                return applied(effect="unknown_transaction")
            if label.transaction_id in self.waiting:
                return applied(effect="repeated")
            self._wait(label)
            return applied(effect="waiting")
        account, merchant = self.known.parties(row)
        applied = functools.partial(
            applied,
            account_id=self.entities.keys["account"].id_of(account),
            merchant_id=self.entities.keys["merchant"].id_of(merchant),
            occurred_at=self.known.occurred_at(row),
        )
        if label.verdict != "fraud":
            return applied(effect="not_fraud")
        if self.known.is_fraud(row):
            return applied(effect="repeated")
        self.known.mark_fraud(row)
        return applied(effect="counted")

    def overtaken(self, transaction: Transaction, now_us: int) -> LabelApplied | None:
        """The fraud label that waited for a transaction admitted just now, counted; None where none waits.

        It is journaled right after the decision, and joins the same `advance` right after the transaction.
        """
        label = self.waiting.pop(transaction.transaction_id, None)
        if label is None:
            return None
        self.mark_fraud(label.transaction_id)
        return LabelApplied(
            label=label, source=None, effect="counted", account_id=transaction.account_id,
            merchant_id=transaction.merchant_id, occurred_at=transaction.occurred_at, journaled_at=now_us,
        )  # fmt: skip

    def mark_fraud(self, transaction_id: str) -> None:
        """Note that a fraud label of this transaction has entered history, if it is remembered."""
        if (row := self.known.find(transaction_id)) >= 0:
            self.known.mark_fraud(row)

    def _wait(self, label: Label) -> None:
        if len(self.waiting) >= WAITING_MOST:
            del self.waiting[next(iter(self.waiting))]
        self.waiting[label.transaction_id] = label

    def fold(self, entries: Iterable[tuple[int, Entry]], supply: Supply | None = None) -> int:
        """Take journal entries, each with its sequence number, in order; returns how many.

        supply: see `assign`. The history of every decision is computed again on the way. Raises StateDiverged when it
        is not what was journaled, when a remembered transaction is decided again or the journal begun again,
        FingerprintMismatch when the entry was made under a declaration that is not in
        force, HistoryMissing when a declaration came into force whose history is not to be had.
        """
        rows: list[tuple[int, Decision | LabelApplied]] = []
        taken = 0
        for sequence, entry in entries:
            taken += 1
            self._refuse_second_beginning(sequence, entry)
            if isinstance(entry, AssignmentApplied) and not self.only:
                self._fold_rows(rows)
                rows = []
                declarations = {name: from_fields(fields) for name, fields in entry.declarations.items()}
                self.assign(entry.assignment, entry.fingerprints, declarations, sequence, supply)
            self.sequence = sequence
            if entry.source is not None:
                self.take_source(entry.source)
            if isinstance(entry, Decision):
                rows.append((sequence, entry))
                self.note_unassigned(entry)
                if entry.assignment:  # older decisions hold their shadows' scores themselves
                    self.awaited.expect((sequence,), self.shadows)
            elif isinstance(entry, LabelApplied) and entry.effect == "counted":
                self.waiting.pop(entry.label.transaction_id, None)
                rows.append((sequence, entry))
            elif isinstance(entry, LabelApplied) and entry.effect == "waiting":
                self._wait(entry.label)
            elif isinstance(entry, ControlApplied):
                self.activate(entry.policy)
            elif isinstance(entry, Answered):
                self.awaited.take(entry)
            elif isinstance(entry, SourcesOpened):
                self.open(entry)
            elif isinstance(entry, JournalBegun):
                self._begin(entry)
            elif isinstance(entry, MemoryChanged):
                self._fold_rows(rows)
                rows = []
                self.remember(entry.remembered)
        self._fold_rows(rows)
        return taken

    def _begin(self, entry: JournalBegun) -> None:
        named, ours = (entry.archive_digest, entry.archive_until_us), (self.archive_digest, self.archive_until_us)
        if named != ours:
            said = [
                f"archive {digest} up to {until_us}" if digest else "no archive" for digest, until_us in (named, ours)
            ]
            raise StateDiverged(f"the journal began after {said[0]}, but this state after {said[1]}")
        self.remember(entry.remembered)

    def _fold_rows(self, rows: list[tuple[int, Decision | LabelApplied]]) -> None:
        if not rows:
            return
        for sequence, entry in rows:
            if isinstance(entry, Decision) and not self.only and entry.fingerprint not in self.histories:
                raise FingerprintMismatch(
                    f"journal entry {sequence}", entry.fingerprint, self.deciding,
                    "run the release that wrote it, or start a new journal from an archive",
                )  # fmt: skip
        status = self._admit_in_order([entry for _, entry in rows])
        computed = self.advance(arrivals([entry for _, entry in rows]))
        decided = iter(status)
        for n, (sequence, entry) in enumerate(rows):
            if not isinstance(entry, Decision):
                continue
            if next(decided) != NEW:
                raise StateDiverged(
                    f"journal entry {sequence} decides transaction {entry.transaction.transaction_id} a second time: "
                    "remove the snapshots, so that the journal is folded from its beginning; where that says the same, "
                    "two scorers wrote the journal: restore it from before this entry"
                )
            for fingerprint, history in computed.items():
                self._require_same(sequence, fingerprint, entry.history_of(fingerprint), history[n])

    def _require_same(
        self, sequence: int, fingerprint: str, journaled: tuple[int, ...] | None, computed: Integers
    ) -> None:
        if journaled == tuple(computed.tolist()) or (journaled is None and self.only):
            return
        if journaled is None:
            raise StateDiverged(
                f"journal entry {sequence} holds no history under declaration {fingerprint}, which is in force: the "
                "snapshot is not of this journal; remove the snapshots, so that archive and journal are folded again"
            )
        at = next(m for m, value in enumerate(journaled) if value != computed[m])
        raise StateDiverged(
            f"journal entry {sequence} says {self.histories[fingerprint].declaration.history_names[at]} is "
            f"{journaled[at]}, this state says {computed[at]}: the snapshot is not of this journal: remove the "
            "snapshots, so that archive and journal are folded again"
        )

    def _refuse_second_beginning(self, sequence: int, entry: Entry) -> None:
        """What a first start journals is there once: a second one was journaled by a state without the first."""
        begins = isinstance(entry, AssignmentApplied | ControlApplied) and entry.source is None
        again = isinstance(entry, JournalBegun) and self.sequence != BEFORE_JOURNAL
        if again or (begins and self.policy is not None):
            raise StateDiverged(
                f"journal entry {sequence} begins the journal a second time ({type(entry).__name__} without a source): "
                "it was written by a scorer that had not read the journal; restore the journal from before this entry"
            )

    def _admit_in_order(self, entries: Sequence[Decision | LabelApplied]) -> list[int]:
        """`admit` of every decision; a label marks what is known at its place, and never what comes after it."""
        status: list[int] = []
        for is_label, run in itertools.groupby(entries, lambda entry: isinstance(entry, LabelApplied)):
            if not is_label:
                status += self.admit([entry.transaction for entry in run if isinstance(entry, Decision)])
                continue
            for entry in run:
                if isinstance(entry, LabelApplied):
                    self.mark_fraud(entry.label.transaction_id)
        return status


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """A state that was folded to the end, and not stopped on the way: the only kind that leads or becomes a snapshot.

    Made where a fold comes to its end and nowhere else (a test looks for other places): a scorer's catching up with the
    journal (`scorer.catch_up`), a history that is prepared (`prepared.fold_until`), an archive before the journal's
    first entry (`backfill.fold_archive`), and the watching process's own fold (`audit.keeping`).
    """

    state: State
