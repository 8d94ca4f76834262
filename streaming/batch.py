"""One micro-batch: messages in, journal entries and dead letters out, each message in exactly one of them.

Nothing here talks to Kafka. The order of the entries is the order in which history took them: control, labels, then
transactions as they arrived.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from features.declaration import FEATURE_NAMES, fingerprint
from features.history import Integers
from features.sweep import Arrivals
from plumbline import label as labels
from plumbline import policy as policies
from plumbline import transaction as transactions
from plumbline.decision import Decision, Outcome, Reason, Score, Source
from plumbline.errors import Invalid
from plumbline.journal import ControlApplied, DeadLetter, Entry, LabelApplied, Rejected
from plumbline.policy import Policy, decide
from plumbline.transaction import Transaction
from serving.client import Scored
from serving.columns import ModelColumns
from streaming.known import NEW
from streaming.model import Model
from streaming.state import State, arrivals, conflict_of

REASONS_MOST: Final = 5
"""Features named with an alert: the strongest of those that raised the score."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as the broker gave it."""

    source: Source
    raw: bytes


@dataclass(slots=True)
class Batch:
    """What a micro-batch leaves behind: entries in journal order, and the dead letters that go with the rejected."""

    entries: list[Entry] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


def process(
    state: State,
    model: Model,
    *,
    control: Sequence[Message] = (),
    label: Sequence[Message] = (),
    transaction: Sequence[Message] = (),
    now_us: int,
) -> Batch:
    """Decide and note a micro-batch; `state` moves on as if its entries were journaled already.

    control, label, transaction: messages of the three topics, in arrival order; now_us: our clock.
    When the entries cannot be journaled the state must be thrown away and rebuilt.
    """
    batch = Batch()
    for each in control:
        _apply_control(state, each, batch, now_us)
    applied = [entry for each in label if (entry := _apply_label(state, each, batch, now_us)) is not None]
    _decide(state, model, applied, transaction, batch, now_us)
    for each in (*control, *label, *transaction):
        state.take_source(each.source)
    return batch


def _apply_control(state: State, message: Message, batch: Batch, now_us: int) -> None:
    try:
        policy = policies.parse(message.raw)
    except Invalid as error:
        batch.entries.append(_rejected(message, error, batch, now_us))
        return
    state.policy = policy
    batch.entries.append(ControlApplied(policy=policy, source=message.source, journaled_at=now_us))


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
    for (n, each), seen in zip(accepted, state.admit([each for _, each in accepted]), strict=True):
        if seen == NEW:
            new.append((each, messages[n].source))
            places.append(n)
        else:
            answers[n] = conflict_of(each, messages[n].source, seen, now_us)
    taken = arrivals([*applied, *(each for each, _ in new)])
    history = state.history.advance(taken)[len(applied) :]
    if new:
        columns = _columns([each for each, _ in new], taken, len(applied), history)
        for n, decision in zip(places, _decisions(model, state.policy, new, columns, now_us), strict=True):
            answers[n] = decision
    batch.entries.extend(entry for entry in answers if entry is not None)


def _decisions(
    model: Model, policy: Policy | None, new: Sequence[tuple[Transaction, Source]], columns: ModelColumns, now_us: int
) -> list[Decision]:
    if policy is None:
        raise AssertionError("a leader journals a policy before its first decision")
    scored = model.score(columns)
    values: list[float | None] = [None] * len(new) if scored is None else scored.values.tolist()
    outcomes = [decide(each, score, policy) for (each, _), score in zip(new, values, strict=True)]
    alerting = [n for n, (outcome, _) in enumerate(outcomes) if outcome is not Outcome.APPROVE]
    explained = dict(zip(alerting, _reasons(model, columns, scored, alerting), strict=True))
    version = scored.model_version if scored is not None else 0
    return [
        Decision(
            transaction=each,
            source=source,
            history=tuple(past),
            fingerprint=fingerprint(),
            scores=() if score is None else (Score(version, score),),
            policy_version=policy.version,
            outcome=outcome,
            reasons=reasons + explained.get(n, ()),
            decided_at=now_us,
        )
        for n, ((each, source), past, score, (outcome, reasons)) in enumerate(
            zip(new, columns.history.tolist(), values, outcomes, strict=True)
        )
    ]


def _reasons(
    model: Model, columns: ModelColumns, scored: Scored | None, alerting: Sequence[int]
) -> list[tuple[Reason, ...]]:
    """The features that raised each alert's score most, strongest first; none where the model does not say."""
    if scored is None or not alerting:
        return [()] * len(alerting)
    effects = model.explain(columns.take(np.array(alerting)), scored.model_version)
    if effects is None:
        return [()] * len(alerting)
    strongest = np.argsort(-effects, axis=1, kind="stable")[:, :REASONS_MOST]
    return [
        tuple(Reason("feature", FEATURE_NAMES[at], float(row[at])) for at in best.tolist() if row[at] > 0)
        for row, best in zip(effects, strongest, strict=True)
    ]


def model_columns(each: Sequence[Transaction], history: Integers) -> ModelColumns:
    """The model's inputs for n transactions and their history, int64 [n, measures]."""
    return _columns(each, arrivals(each), 0, history)


def _columns(each: Sequence[Transaction], taken: Arrivals, begin: int, history: Integers) -> ModelColumns:
    """The model's inputs, from columns that history has taken already; `each` are its rows from `begin` on."""
    return ModelColumns(
        history=history,
        occurred_at=taken.times[begin:],
        amount_minor=taken.amounts[begin:],
        latitude_e6=taken.latitudes[begin:],
        longitude_e6=taken.longitudes[begin:],
        currency=[one.currency.encode() for one in each],
        channel=[one.channel.encode() for one in each],
        mcc=[one.mcc.encode() for one in each],
        country=[one.country.encode() for one in each],
    )
