"""One micro-batch: messages in, journal entries and dead letters out, each message in exactly one of them.

Nothing here talks to Kafka. The order of the entries is the order in which history took them: control, labels, then
transactions as they arrived. A label that was here before its transaction is entered again, right after the decision.
How champion and arms answered stands before the transactions.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

import numpy as np

from features.grammar import Declaration, fields_of
from features.history import Integers
from features.sweep import Arrivals
from plumbline import control as controls
from plumbline import journal
from plumbline import label as labels
from plumbline import transaction as transactions
from plumbline.assignment import Assignment
from plumbline.decision import Source
from plumbline.errors import (
    HistoryMissing,
    Invalid,
    InvalidControl,
    InvalidDeclaration,
    ModelUnavailable,
    SnapshotRefused,
    StateDiverged,
    UnprocessableMessage,
    UnreadableMessage,
)
from plumbline.journal import (
    ENTRY_MAX_BYTES,
    AssignmentApplied,
    Conflict,
    ControlApplied,
    DeadLetter,
    Entry,
    LabelApplied,
    Rejected,
)
from plumbline.message import digest_of, readable, start_of
from plumbline.policy import Policy, require_own_version, require_replaced
from plumbline.times import ANY_AGE_DAYS, DAY_US
from plumbline.transaction import Transaction
from serving.columns import ModelColumns
from streaming.arrivals import arrivals
from streaming.deciding import decisions
from streaming.known import IDENTICAL, NEW
from streaming.model import Model, Question
from streaming.state import State, Supply

Place = tuple[str, int, int]
"""Topic, partition and offset of a message."""

Read = TypeVar("Read")

US_A_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class Message:
    """A message as the broker gave it; `raw` is `plumbline.message.Damaged` where it could not."""

    source: Source
    raw: bytes

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.source.topic, self.source.partition, self.source.offset


@dataclass(frozen=True, slots=True)
class Intake:
    """What is refused besides what is wrong in itself: see `process`."""

    now_us: int
    max_age_days: int
    unprocessable: Collection[Place]

    def read(self, message: Message, parse: Callable[[bytes, int, int], Read]) -> Read:
        """A message through its parser, which is told when the broker took it, and the oldest time accepted then.

        Raises what the parser raises, UnreadableMessage and UnprocessableMessage.
        """
        self.require_processable(message)
        appended_us = message.source.appended_at_ms * US_A_MS
        return parse(readable(message.raw), appended_us, appended_us - self.max_age_days * DAY_US)

    def require_processable(self, message: Message) -> None:
        """Raises UnprocessableMessage for one that ended this code before."""
        if message.place in self.unprocessable:
            topic, partition, offset = message.place
            raise UnprocessableMessage(
                f"message {topic}-{partition} at offset {offset}", "record", bytes(message.raw),
                "a message that this release can process; the scorer's log has the error that it caused",
            )  # fmt: skip

    def rejected(self, message: Message, error: Invalid, batch: "Batch") -> Rejected:
        """The entry of a message that is set aside; its dead letter joins the batch."""
        batch.dead_letters.append(
            DeadLetter(
                raw=start_of(message.raw),
                error=str(error),
                field=error.field,
                allowed=error.allowed,
                source=message.source,
                rejected_at=self.now_us,
                raw_length=len(message.raw),
                raw_sha256=digest_of(message.raw),
            )
        )
        kind: Literal["invalid", "unreadable", "unprocessable"] = "invalid"
        if isinstance(error, UnreadableMessage | UnprocessableMessage):
            kind = "unreadable" if isinstance(error, UnreadableMessage) else "unprocessable"
        return Rejected(
            source=message.source,
            error=str(error),
            journaled_at=self.now_us,
            kind=kind,
            max_age_days=self.max_age_days,
        )


@dataclass(slots=True)
class Batch:
    """What a micro-batch leaves behind: entries in journal order, and the dead letters that go with the rejected.

    shadows: by version, what each shadow is to be asked about its decisions, in their order, once they are journaled.
    """

    entries: list[Entry] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    shadows: dict[int, Question] = field(default_factory=dict)


def process(
    state: State,
    model: Model,
    *,
    control: Sequence[Message] = (),
    label: Sequence[Message] = (),
    transaction: Sequence[Message] = (),
    now_us: int,
    supply: Supply | None = None,
    max_age_days: int = ANY_AGE_DAYS,
    unprocessable: Collection[Place] = (),
) -> Batch:
    """Decide and note a micro-batch; `state` moves on as if its entries were journaled already.

    control, label, transaction: messages of the three topics, in arrival order, and no more transactions than are
    remembered; now_us: our clock; supply: of histories that an assignment asks for, and then everything before this
    batch must be journaled; max_age_days: a time further before the broker's append time is refused; unprocessable:
    places of messages that are rejected unread.
    When the entries cannot be journaled the state must be thrown away and rebuilt.
    """
    batch = Batch()
    intake = Intake(now_us, max_age_days, unprocessable)
    for each in control:
        batch.entries.append(_apply_control(state, model, each, batch, intake, supply))
    applied = [entry for each in label if (entry := _apply_label(state, each, batch, intake)) is not None]
    _decide(state, model, applied, transaction, batch, intake)
    for each in (*control, *label, *transaction):
        state.take_source(each.source)
    return batch


def _apply_control(
    state: State, model: Model, message: Message, batch: Batch, intake: Intake, supply: Supply | None
) -> Entry:
    now_us = intake.now_us
    try:
        intake.require_processable(message)
        given = controls.parse(readable(message.raw))
        if isinstance(given, Policy):
            require_replaced(given, state.policy)
            require_own_version(given, state.policies)
            applied = ControlApplied(policy=given, source=message.source, journaled_at=now_us)
            _require_fit(f"policy {given.version}", applied)
            state.activate(given)
            return applied
        return _assign(state, model, given, message.source, now_us, supply)
    except Invalid as error:
        return intake.rejected(message, error, batch)


def _require_fit(subject: str, entry: Entry) -> None:
    """Raises InvalidControl for an entry that the journal's topic would not take."""
    if (size := len(journal.encode(entry))) > ENTRY_MAX_BYTES:
        allowed = f"what makes a journal entry of {ENTRY_MAX_BYTES} bytes or fewer"
        raise InvalidControl(subject, "record", f"a journal entry of {size} bytes", allowed)


def _assign(
    state: State, model: Model, assignment: Assignment, source: Source, now_us: int, supply: Supply | None
) -> AssignmentApplied:
    """Bring an assignment into force. Raises InvalidControl when a version or its history cannot be had."""
    subject = f"assignment {assignment.version}"
    if not assignment.may_replace(state.assignment):
        in_force = "of which there is none" if state.assignment is None else state.assignment.version
        allowed = f"the assignment in force, {in_force}"
        raise InvalidControl(subject, "replaces", assignment.replaces, allowed)
    try:
        declared = [_declaration(state, model, version, assignment) for version in assignment.versions]
    except (ModelUnavailable, InvalidDeclaration) as error:
        allowed = f"versions that are served and say what they were trained under ({error})"
        raise InvalidControl(subject, "versions", assignment.versions, allowed) from error
    fingerprints = tuple(each.fingerprint for each in declared)
    declarations = {each.fingerprint: each for each in declared}
    applied = AssignmentApplied(
        assignment=assignment,
        fingerprints=fingerprints,
        declarations={name: fields_of(each) for name, each in declarations.items()},
        source=source,
        journaled_at=now_us,
    )
    _require_fit(subject, applied)
    try:
        state.assign(assignment, fingerprints, declarations, state.sequence + 1, supply)
    except (HistoryMissing, StateDiverged, SnapshotRefused) as error:
        allowed = f"versions whose history is prepared ({error})"
        raise InvalidControl(subject, "versions", assignment.versions, allowed) from error
    return applied


def _declaration(state: State, model: Model, version: int, assignment: Assignment) -> Declaration:
    """What a version was trained under; of one that is only kept ready nobody is asked, where the state knows it."""
    active = state.assignment
    if version in assignment.kept_ready and active is not None and version in active.versions:
        return state.histories[state.fingerprints[active.versions.index(version)]].declaration
    return model.declaration(version)


def _apply_label(state: State, message: Message, batch: Batch, intake: Intake) -> LabelApplied | None:
    try:
        label = intake.read(message, labels.parse)
    except Invalid as error:
        batch.entries.append(intake.rejected(message, error, batch))
        return None
    entry = state.label(label, message.source, intake.now_us)
    batch.entries.append(entry)
    return entry if entry.effect == "counted" else None


def _decide(
    state: State,
    model: Model,
    applied: Sequence[LabelApplied],
    messages: Sequence[Message],
    batch: Batch,
    intake: Intake,
) -> None:
    now_us = intake.now_us
    answers: list[Entry | None] = [None] * len(messages)
    accepted: list[tuple[int, Transaction]] = []
    for n, message in enumerate(messages):
        try:
            accepted.append((n, intake.read(message, transactions.parse)))
        except Invalid as error:
            answers[n] = intake.rejected(message, error, batch)
    new: list[tuple[Transaction, Source]] = []
    places: list[int] = []
    followed: dict[int, LabelApplied] = {}
    rows: list[LabelApplied | Transaction] = [*applied]
    at: list[int] = []
    for (n, each), seen in zip(accepted, state.admit([each for _, each in accepted]), strict=True):
        if seen != NEW:
            answers[n] = Conflict(
                transaction=each, source=messages[n].source, identical=seen == IDENTICAL, journaled_at=now_us
            )
            continue
        new.append((each, messages[n].source))
        places.append(n)
        at.append(len(rows))
        rows.append(each)
        if (label := state.overtaken(each, now_us)) is not None:
            followed[n] = label
            rows.append(label)
    taken = arrivals(rows)
    histories = state.advance(taken)
    if new:
        columns = {
            fingerprint: _columns([each for each, _ in new], taken, np.array(at), history)
            for fingerprint, history in histories.items()
        }
        decided, answered = decisions(state, model, new, columns, now_us)
        batch.shadows = {each: Question(columns[name], name, each) for each, name in state.shadows}
        batch.entries.extend(answered)
        for n, decision in zip(places, decided, strict=True):
            answers[n] = decision
    for n, entry in enumerate(answers):
        batch.entries.extend(each for each in (entry, followed.get(n)) if each is not None)


def model_columns(each: Sequence[Transaction], history: Integers) -> ModelColumns:
    """The model's inputs for n transactions and their history, int64 [n, measures]."""
    return _columns(each, arrivals(each), np.arange(len(each)), history)


def _columns(each: Sequence[Transaction], taken: Arrivals, at: Integers, history: Integers) -> ModelColumns:
    """The model's inputs, from columns that history has taken already; `each` are its rows `at`, int64 [n]."""
    return ModelColumns(
        history=history[at],
        occurred_at=taken.times[at],
        amount_minor=taken.amounts[at],
        latitude_e6=taken.latitudes[at],
        longitude_e6=taken.longitudes[at],
        currency=[one.currency.encode() for one in each],
        channel=[one.channel.encode() for one in each],
        mcc=[one.mcc.encode() for one in each],
        country=[one.country.encode() for one in each],
    )
