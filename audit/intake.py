"""What became of each message, decided again: parsed by the one parser, and judged by what was known at its place.

The state here is the scorer's own fold, but it never takes the journal's word for a message whose bytes are kept. So a
record that was changed, added or taken away does not lead the numbers after it astray, and shows alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from archive.record import Record
from audit.fields import Body, fields_differing
from audit.late import LateLabels, label_words
from audit.policies import refusal
from audit.provenance import Provenance, named, tag
from audit.report import Difference
from audit.routes import Routes, Versions
from features.grammar import Declaration, from_fields
from features.history import Integers
from features.sweep import Entities, History
from plumbline import control, journal
from plumbline import label as labels
from plumbline import transaction as transactions
from plumbline.assignment import Assignment
from plumbline.decision import Decision, Source
from plumbline.errors import Invalid, JournalRefused
from plumbline.journal import (
    Answered,
    AssignmentApplied,
    Conflict,
    ControlApplied,
    Entry,
    JournalBegun,
    LabelApplied,
    MemoryChanged,
    Rejected,
    SourcesOpened,
)
from plumbline.label import Label
from plumbline.names import Topic
from plumbline.policy import Policy
from plumbline.times import DAY_US
from plumbline.transaction import Transaction
from streaming.arrivals import arrivals
from streaming.known import IDENTICAL, NEW
from streaming.state import State

Rebuild = Callable[[Declaration, Entities], History]
"""History of everything before the records at hand, under a declaration that comes into force among them."""


@dataclass(slots=True)
class Judged:
    """One record: what the journal says, what the message says, and what should have become of it.

    entry: None for a message that was passed over; body: parsed again (as journaled where nobody keeps the message),
    None where it is no valid one; error: why not; became: the entry it should have, in words; arrival: its number
    among all that entered history, -1 when it did not; policy: in force at its place; in_force: fingerprints of the
    declarations, the deciding one first; shadows: those that must answer about a decision; unordered: why the entry may
    not be where it is, see `audit.provenance`.
    """

    record: Record
    entry: Entry | None
    body: Body | None = None
    error: str = ""
    became: str = ""
    arrival: int = -1
    policy: Policy | None = None
    in_force: tuple[str, ...] = ()
    shadows: Versions = ()
    unordered: str = ""
    account_id: str = ""
    differences: list[Difference] = field(default_factory=list)

    @property
    def is_void(self) -> bool:
        """Whether the entry changes what is active although nobody ordered it."""
        return bool(self.unordered) and self.entry is not None and self.entry.source is None


@dataclass(frozen=True, slots=True)
class Taken:
    """Records, judged; the transactions and counted labels that enter history, in order; and their histories.

    histories: int64 [n, measures] by declaration: every one that was ever in force so far.
    """

    judged: list[Judged]
    rows: list[Transaction | LabelApplied]
    histories: dict[str, Integers]


class Intake:
    """All messages in the journal's order, from the very first on; `state` is what an honest scorer would hold."""

    def __init__(self, state: State, prefix: str, rebuild: Rebuild) -> None:
        self.state = state
        self.arrived = 0
        self._prefix = prefix
        self._rebuild = rebuild
        self._in_force: tuple[str, ...] = (state.deciding,)
        self._late: LateLabels[Judged] = LateLabels()
        self._routes = Routes()
        self._provenance = Provenance()
        self._first: Entry | None = None

    def take(self, records: Sequence[Record]) -> Taken:
        """Take the next records; raises JournalRefused for one that is no entry."""
        judged = [self._read(each) for each in records]
        if self._first is None and judged:
            self._first = judged[0].entry
        for each in judged:
            if isinstance(each.entry, AssignmentApplied):
                self._join(each.entry)
        rows: list[Transaction | LabelApplied] = []
        waiting: list[Judged] = []
        for each in judged:
            if isinstance(each.body, Transaction):
                waiting.append(each)
                continue
            self._admit(waiting, rows)
            waiting = []
            self._take_other(each, rows)
        self._admit(waiting, rows)
        for each in judged:
            each.differences.extend(_compared(each))
            self._route(each)
        for each, words in self._late.missing(judged[-1]) if judged else ():
            told_with = each if each.record.sequence >= records[0].sequence else judged[0]
            told_with.differences.append(_difference(each, "intake", "late label", "absent", words))
        return Taken(judged, rows, self.state.advance(arrivals(rows)))

    def declaration(self, fingerprint: str) -> Declaration:
        """One that was ever in force."""
        return self.state.histories[fingerprint].declaration

    def _join(self, entry: AssignmentApplied) -> None:
        """Have a history for every declaration that comes into force among the records at hand, and keep the others."""
        for fingerprint, fields in entry.declarations.items():
            if fingerprint not in self.state.histories:
                history = self._rebuild(from_fields(fields), self.state.entities)
                self.state.histories[fingerprint] = history

    def _read(self, record: Record) -> Judged:
        entry = None if record.value is None else _decoded(record)
        each = Judged(record, entry)
        each.account_id = _account(entry)
        if isinstance(entry, SourcesOpened):
            self.state.open(entry)
        if entry is not None:
            each.unordered = self._provenance.take(tag(entry), named(entry), from_message=entry.source is not None)
        if record.state == "never":
            each.became = "no message"
            return each
        if record.topic and record.offset < self.state.positions.get((record.topic, record.partition), 0):
            each.became = "nothing, since its message was answered before"
            return each
        if record.topic:
            self.state.positions[record.topic, record.partition] = record.offset + 1
        if record.message is None or (isinstance(entry, Rejected) and entry.kind == "unprocessable"):
            # What ended the scorer's own code cannot be seen in the message: the journal says.
            each.body, each.error = _journaled(entry)
        else:
            try:
                each.body = self._parsed(record, entry)
            except Invalid as error:
                each.error = str(error)
        if isinstance(each.body, Transaction):
            each.account_id = each.account_id or each.body.account_id
        if each.error:
            each.became = "rejected"
        return each

    def _parsed(self, record: Record, entry: Entry | None) -> Body:
        now_us, oldest_us = _judged_by(record, entry)
        raw = record.message or b""
        if record.topic == self._prefix + Topic.LABELS.value:
            return labels.parse(raw, now_us, oldest_us)
        if record.topic == self._prefix + Topic.CONTROL.value:
            return control.parse(raw, patterns=isinstance(entry, ControlApplied))
        return transactions.parse(raw, now_us, oldest_us)

    def _admit(self, run: Sequence[Judged], rows: list[Transaction | LabelApplied]) -> None:
        bodies = [each.body for each in run if isinstance(each.body, Transaction)]
        for each, body, status in zip(run, bodies, self.state.admit(bodies), strict=True):
            each.policy, each.in_force = self.state.policy, self._in_force
            if status == NEW:
                each.became = "decision"
                self._enters(each, body, rows)
                if (late := self.state.overtaken(body, 0)) is not None:
                    self._late.expect(each, late)
                    self._enters(Judged(each.record, None), late, rows)
            else:
                each.became = f"conflict, {'identical' if status == IDENTICAL else 'with another body'}"

    def _take_other(self, each: Judged, rows: list[Transaction | LabelApplied]) -> None:
        if each.is_void and each.entry is not None:
            each.became = _words(each.entry)  # the difference says what is wrong; what it says is not active
        elif isinstance(each.body, Policy):
            if not (why := refusal(each.body, self.state.policy, self.state.policies, each.entry)):
                self.state.activate(each.body)
            each.became, each.error = ("rejected", why) if why else ("control", "")
        elif isinstance(each.body, Assignment) and isinstance(each.entry, Rejected):
            # Whether a version was served and its history prepared cannot be known from the message: the journal says.
            each.became, each.error = "rejected", each.entry.error
        elif isinstance(each.body, Assignment):
            each.became = f"assignment, {each.body.version}"
        elif isinstance(each.body, Label) and not each.record.topic:
            each.became = self._late.became(each.body)
        elif isinstance(each.body, Label):
            source = Source(each.record.topic, each.record.partition, each.record.offset, each.record.appended_at_ms)
            applied = self.state.label(each.body, source, 0)
            each.account_id = applied.account_id
            each.became = label_words(applied)
            if applied.effect == "counted":
                self._enters(each, applied, rows)
        elif isinstance(each.entry, Answered):
            each.became = "answered"
        elif isinstance(each.entry, MemoryChanged | SourcesOpened):
            each.became = _words(each.entry)
            if isinstance(each.entry, MemoryChanged):
                self.state.remember(each.entry.remembered)
        elif isinstance(each.entry, JournalBegun):
            each.became = self._begun(each.entry)
        if isinstance(each.entry, AssignmentApplied) and each.became != "no message" and not each.is_void:
            deciding = each.entry.fingerprints[:1] or tuple(each.entry.declarations)[:1]
            self._in_force = (*deciding, *(name for name in each.entry.declarations if name not in deciding))
            if each.entry.assignment is None:
                each.became = "assignment"
        each.policy, each.in_force = self.state.policy, self._in_force

    def _begun(self, entry: JournalBegun) -> str:
        """What a first entry should say: which archive was folded before it; it comes first and once."""
        if self._first is not entry:
            return "nothing, since a journal begins once"
        self.state.remember(entry.remembered)
        return _after(self.state.archive_digest, self.state.archive_until_us)

    def _route(self, each: Judged) -> None:
        """Judge by whom a decision was made, and note who must answer about it."""
        if each.entry is None or each.record.state == "never" or each.is_void:
            return
        said = each.body if isinstance(each.body, Assignment) else None
        account = each.body.account_id if isinstance(each.body, Transaction) else each.account_id
        told = self._routes.take(each.entry, account, said)
        each.differences.extend(_difference(each, "intake", *one) for one in told)
        if isinstance(each.entry, Decision):
            deciding = self._routes.declaration(each.entry)
            if deciding in each.in_force:
                each.in_force = (deciding, *(name for name in each.in_force if name != deciding))
            each.shadows = self._routes.shadows if each.entry.assignment else ()

    def _enters(self, each: Judged, row: Transaction | LabelApplied, rows: list[Transaction | LabelApplied]) -> None:
        each.arrival = self.arrived
        self.arrived += 1
        rows.append(row)


def _compared(each: Judged) -> Iterator[Difference]:
    """What the record says otherwise than the message, and than what should have become of it."""
    entry, record = each.entry, each.record
    if entry is None:
        yield _difference(each, "intake", "entry", "absent", each.became)
        return
    if each.unordered:
        yield _difference(each, "intake", "message", "none", each.unordered)
    if record.state == "never":
        place = f"{record.topic}/{record.partition}@{record.offset}"
        yield _difference(each, "transaction", "message", place, "no message")
        return
    was, _ = _journaled(entry)
    if record.message is not None and was is not None and each.body is not None:
        for name, journaled, parsed in fields_differing(was, each.body):
            yield _difference(each, "transaction", name, journaled, parsed)
    told_alike = isinstance(entry, Rejected) and entry.max_age_days is not None  # earlier releases had other words
    if isinstance(entry, Rejected) and told_alike and each.error and entry.error != each.error:
        yield _difference(each, "transaction", "error", entry.error, each.error)
    if (words := _words(entry)) != each.became:
        yield _difference(each, "intake", "entry", words, each.became)
    if isinstance(entry, AssignmentApplied):
        for name, fields in entry.declarations.items():
            if (found := from_fields(fields).fingerprint) != name:
                yield _difference(each, "intake", "declaration", name, found)
    if isinstance(entry, Decision) and each.policy is not None and entry.policy_version != each.policy.version:
        yield _difference(each, "intake", "policy in force", entry.policy_version, each.policy.version)


def _journaled(entry: Entry | None) -> tuple[Body | None, str]:
    """What the journal says of the message itself: its body, or why it was rejected."""
    if isinstance(entry, Decision | Conflict):
        return entry.transaction, ""
    if isinstance(entry, LabelApplied):
        return entry.label, ""
    if isinstance(entry, ControlApplied):
        return entry.policy, ""
    if isinstance(entry, AssignmentApplied):
        return entry.assignment, ""
    return None, entry.error if isinstance(entry, Rejected) else ""


def _words(entry: Entry) -> str:
    """What the journal says became of the message."""
    if isinstance(entry, LabelApplied):
        return label_words(entry)
    if isinstance(entry, Conflict):
        return f"conflict, {'identical' if entry.identical else 'with another body'}"
    if isinstance(entry, AssignmentApplied):
        return "assignment" if entry.assignment is None else f"assignment, {entry.assignment.version}"
    if isinstance(entry, JournalBegun):
        return _after(entry.archive_digest, entry.archive_until_us)
    return {
        Decision: "decision", Rejected: "rejected", ControlApplied: "control", Answered: "answered",
        MemoryChanged: "memory", SourcesOpened: "sources",
    }[type(entry)]  # fmt: skip


def _after(digest: str, until_us: int | None) -> str:
    """How a journal began, in words."""
    upto = "" if until_us is None else f" up to {until_us}"
    return f"begun after archive {digest}{upto}" if digest else "begun after no archive"


def _account(entry: Entry | None) -> str:
    if isinstance(entry, Decision | Conflict):
        return entry.transaction.account_id
    return entry.account_id if isinstance(entry, LabelApplied) else ""


def _judged_by(record: Record, entry: Entry | None) -> tuple[int, int]:
    """When the message came, and the oldest time that was accepted then, microseconds since 1970 UTC.

    What was accepted does not say how old it might have been; entries of releases that judged by their own clock are
    judged by it again.
    """
    if entry is None:
        return record.appended_at_ms * 1000, 0
    if isinstance(entry, Rejected):
        if entry.max_age_days is None:
            return entry.journaled_at, 0
        appended_us = entry.source.appended_at_ms * 1000
        return appended_us, appended_us - entry.max_age_days * DAY_US
    clock_us = entry.decided_at if isinstance(entry, Decision) else entry.journaled_at
    appended_us = entry.source.appended_at_ms * 1000 if entry.source is not None else 0
    return max(clock_us, appended_us), 0


def _decoded(record: Record) -> Entry:
    try:
        return journal.decode(record.value or b"")
    except msgspec.MsgspecError as error:
        raise JournalRefused(f"journal entry {record.sequence} cannot be read ({error}): it is none of ours") from error


def _difference(each: Judged, layer: str, name: str, journaled: str, recomputed: str) -> Difference:
    entry = each.entry
    body = each.body if each.body is not None else _journaled(entry)[0]
    identity = (
        getattr(body, "transaction_id", "") or f"{each.record.topic}/{each.record.partition}@{each.record.offset}"
    )
    scores = entry.scores if isinstance(entry, Decision) else ()
    return Difference(
        sequence=each.record.sequence,
        transaction_id=identity,
        layer=layer,
        name=name,
        journaled=journaled,
        recomputed=recomputed,
        fingerprint=entry.fingerprint if isinstance(entry, Decision) else "",
        model_version=scores[0].model_version if scores else None,
    )
