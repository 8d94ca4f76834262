"""One micro-batch: messages in, journal entries and dead letters out, each message in exactly one of them.

Nothing here talks to Kafka. The order of the entries is the order in which history took them: control, labels, then
transactions as they arrived. A label that was here before its transaction is entered again, right after the decision.
How champion and arms answered stands before the transactions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from features.grammar import fields_of
from features.history import Integers
from features.sweep import Arrivals
from plumbline import control as controls
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
)
from plumbline.journal import AssignmentApplied, Conflict, ControlApplied, DeadLetter, Entry, LabelApplied, Rejected
from plumbline.policy import Policy, require_own_version, require_replaced
from plumbline.transaction import Transaction
from serving.columns import ModelColumns
from streaming.arrivals import arrivals
from streaming.deciding import decisions
from streaming.known import IDENTICAL, NEW
from streaming.model import Model, Question
from streaming.state import State, Supply


@dataclass(frozen=True, slots=True)
class Message:
    """A message as the broker gave it."""

    source: Source
    raw: bytes


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
) -> Batch:
    """Decide and note a micro-batch; `state` moves on as if its entries were journaled already.

    control, label, transaction: messages of the three topics, in arrival order, and no more transactions than are
    remembered; now_us: our clock; supply: of histories that an assignment asks for, and then everything before this
    batch must be journaled.
    When the entries cannot be journaled the state must be thrown away and rebuilt.
    """
    batch = Batch()
    for each in control:
        batch.entries.append(_apply_control(state, model, each, batch, now_us, supply))
    applied = [entry for each in label if (entry := _apply_label(state, each, batch, now_us)) is not None]
    _decide(state, model, applied, transaction, batch, now_us)
    for each in (*control, *label, *transaction):
        state.take_source(each.source)
    return batch


def _apply_control(
    state: State, model: Model, message: Message, batch: Batch, now_us: int, supply: Supply | None
) -> Entry:
    try:
        given = controls.parse(message.raw)
        if isinstance(given, Policy):
            require_replaced(given, state.policy)
            require_own_version(given, state.policies)
            state.activate(given)
            return ControlApplied(policy=given, source=message.source, journaled_at=now_us)
        return _assign(state, model, given, message.source, now_us, supply)
    except Invalid as error:
        return _rejected(message, error, batch, now_us)


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
        declared = [model.declaration(version) for version in assignment.versions]
    except (ModelUnavailable, InvalidDeclaration) as error:
        allowed = f"versions that are served and say what they were trained under ({error})"
        raise InvalidControl(subject, "versions", assignment.versions, allowed) from error
    fingerprints = tuple(each.fingerprint for each in declared)
    declarations = {each.fingerprint: each for each in declared}
    try:
        state.assign(assignment, fingerprints, declarations, state.sequence + 1, supply)
    except (HistoryMissing, StateDiverged, SnapshotRefused) as error:
        allowed = f"versions whose history is prepared ({error})"
        raise InvalidControl(subject, "versions", assignment.versions, allowed) from error
    return AssignmentApplied(
        assignment=assignment,
        fingerprints=fingerprints,
        declarations={name: fields_of(each) for name, each in declarations.items()},
        source=source,
        journaled_at=now_us,
    )


def _apply_label(state: State, message: Message, batch: Batch, now_us: int) -> LabelApplied | None:
    try:
        label = labels.parse(message.raw, now_us)
    except Invalid as error:
        batch.entries.append(_rejected(message, error, batch, now_us))
        return None
    entry = state.label(label, message.source, now_us)
    batch.entries.append(entry)
    return entry if entry.effect == "counted" else None


def _rejected(message: Message, error: Invalid, batch: Batch, now_us: int) -> Rejected:
    batch.dead_letters.append(
        DeadLetter(
            raw=message.raw,
            error=str(error),
            field=error.field,
            allowed=error.allowed,
            source=message.source,
            rejected_at=now_us,
        )
    )
    return Rejected(source=message.source, error=str(error), journaled_at=now_us)


def _decide(
    state: State,
    model: Model,
    applied: Sequence[LabelApplied],
    messages: Sequence[Message],
    batch: Batch,
    now_us: int,
) -> None:
    answers: list[Entry | None] = [None] * len(messages)
    accepted: list[tuple[int, Transaction]] = []
    for n, message in enumerate(messages):
        try:
            accepted.append((n, transactions.parse(message.raw, now_us)))
        except Invalid as error:
            answers[n] = _rejected(message, error, batch, now_us)
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
