"""Replay of one decision: computed again under the versions of then, and shown field by field.

Nothing of what the record says is taken on trust but who paid whom: the declaration is the one that the record names,
the history comes from the archive and the journal before it, features and score from the files of the model version,
the outcome from the policy as the journal brought it.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
from kafka import TopicPartition
from kafka.errors import OffsetOutOfRangeError

from audit import reasons
from audit.bits import bits, unequal
from audit.models import Versions, inputs
from audit.past import Sources, declarations_journaled, find, past_of, shadows_of
from features.declaration import DECLARATION
from features.grammar import Declaration
from features.history import Integers
from plumbline import transaction as transactions
from plumbline.assignment import Assignment
from plumbline.decision import Decision, Score
from plumbline.errors import FingerprintMismatch, Invalid, Refused
from plumbline.message import Damaged
from plumbline.policy import Policy, decide
from plumbline.transaction import Transaction
from streaming.deciding import strongest
from streaming.kafka import end_offsets, reader
from training.export import versions
from training.files import declaration_of

LAYERS: Final = ("transaction", "history", "features", "score", "outcome", "reasons")
RAW_POLLS: Final = 20


class Field(msgspec.Struct, frozen=True):
    """One value as it was journaled and as it was computed again; `equal` is bit for bit."""

    layer: str
    name: str
    journaled: str
    recomputed: str
    equal: bool


class Replayed(msgspec.Struct, frozen=True):
    """A decision, computed again: which one, under which versions, and every field of it.

    model_version: None when no model had answered; raw: whether the message itself was still there to be read again.
    """

    transaction_id: str
    sequence: int
    fingerprint: str
    model_version: int | None
    policy_version: str
    raw: bool
    fields: list[Field]

    @property
    def equal(self) -> bool:
        """Whether every field came out as it was journaled."""
        return all(each.equal for each in self.fields)

    @property
    def different(self) -> list[Field]:
        """The fields that did not."""
        return [each for each in self.fields if not each.equal]


def replay(sources: Sources, versions_: Versions, transaction_id: str, hint: int | None = None) -> Replayed:
    """Compute a past decision again; hint: its sequence number, where SQL knows it.

    Raises TransactionNotFound; ModelVersionNotFound when its model's files are gone; Refused when its declaration is
    neither this release's nor that of any model here; BrokerUnavailable, InvalidArchive.
    """
    sequence, decision = find(sources.journal, transaction_id, hint)
    declared = _declared(sources, sequence, decision)
    past = past_of(sources, sequence, decision, declared)
    histories = past.histories
    raw = _raw(sources.journal.bootstrap, decision)
    again = _parsed(raw, decision) if raw is not None else None
    fields = _transaction_fields(decision, raw, again)
    paid = again or decision.transaction
    for name, each in declared.items():
        fields += _history_fields(decision, each, histories[name])
    score = None
    if decision.scores:
        score, found = _model_fields(versions_, decision, paid, histories)
        fields += found
    if past.assignment is not None and decision.assignment:
        said = shadows_of(sources.journal, sequence, past.assignment.shadows)
        fields += _shadow_fields(versions_, decision, paid, histories, said)
        fields += _route_fields(decision, past.assignment, paid.account_id)
    fields += _outcome_fields(decision, paid, score, past.policies)
    version = decision.scores[0].model_version if decision.scores else None
    return Replayed(
        transaction_id, sequence, decision.fingerprint, version, decision.policy_version, raw is not None, fields
    )


def _declared(sources: Sources, sequence: int, decision: Decision) -> dict[str, Declaration]:
    """Every declaration that a decision names, the deciding one first: ours, that of a model here, or the journal's."""
    wanted = [decision.fingerprint, *(each.fingerprint for each in decision.other_histories)]
    known = {DECLARATION.fingerprint: DECLARATION}
    for version in versions(sources.models):
        try:
            declared = declaration_of(sources.models / str(version))
        except (Refused, FingerprintMismatch):
            continue
        known[declared.fingerprint] = declared
    if not known.keys() >= set(wanted):
        known |= declarations_journaled(sources.journal, sequence)
    for name in wanted:
        if name not in known:
            raise Refused(
                f"transaction {decision.transaction.transaction_id} was decided under declaration {name}: neither this "
                f"release's, nor the journal's, nor that of any model in {sources.models}; bring the files of the model"
            )
    return {name: known[name] for name in wanted}


def _history_fields(decision: Decision, declared: Declaration, history: Integers) -> list[Field]:
    was = decision.history_of(declared.fingerprint) or ()
    if len(was) != len(declared.history_names):
        raise Refused(
            f"the record holds {len(was)} measures under declaration {declared.fingerprint}, which has "
            f"{len(declared.history_names)}: it is not whole"
        )
    own = declared.fingerprint == decision.fingerprint
    return [
        Field("history", name if own else f"{name} ({declared.fingerprint})", bits(old), bits(new), old == new)
        for name, old, new in zip(declared.history_names, was, history[0].tolist(), strict=True)
    ]


def _raw(bootstrap: str, decision: Decision) -> bytes | None:
    """The message that was decided, as the broker still holds it; None when it is gone."""
    source = decision.source
    partition = TopicPartition(source.topic, source.partition)
    if end_offsets(bootstrap, [source.topic]).get(partition, 0) <= source.offset:
        return None
    consumer = reader(bootstrap, {partition: source.offset}, most_records=1, damaged=True)
    try:
        for _ in range(RAW_POLLS):
            for record in consumer.poll(timeout_ms=500).get(partition, []):
                known = record.offset == source.offset and not isinstance(record.value, Damaged)
                found: bytes | None = record.value if known else None
                return found
    except OffsetOutOfRangeError:
        return None
    finally:
        consumer.close()
    return None


def _parsed(raw: bytes, decision: Decision) -> Transaction | None:
    try:
        return transactions.parse(raw, max(decision.decided_at, decision.source.appended_at_ms * 1000))
    except Invalid:
        return None


def _transaction_fields(decision: Decision, raw: bytes | None, again: Transaction | None) -> list[Field]:
    if raw is None:
        return []
    if again is None:
        return [Field("transaction", "message", "a transaction", "refused", False)]
    found = []
    for name in Transaction.__struct_fields__:
        was, now = getattr(decision.transaction, name), getattr(again, name)
        found.append(Field("transaction", name, _text(was), _text(now), was == now))
    return found


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _model_fields(
    versions_: Versions, decision: Decision, paid: Transaction, histories: dict[str, Integers]
) -> tuple[float, list[Field]]:
    """The deciding version's features over both histories by one graph, its reasons, and every version's score.

    Returns the recomputed deciding score too.
    """
    values: list[float] = []
    features: list[Field] = []
    scores: list[Field] = []
    explained: dict[int, reasons.Reasons] = {}
    for scored in decision.scores:
        model = versions_.loaded(scored.model_version)
        name = model.declaration.fingerprint
        was = decision.history_of(name)
        if was is None:
            raise Refused(f"the record holds no history for declaration {name} of model version {scored.model_version}")
        now = inputs([paid], histories[name])
        if not values:
            old = inputs([decision.transaction], np.array([was], np.int64))
            ours, theirs = model.call("transform", now), model.call("transform", old)
            features = [
                Field("features", each, bits(theirs[each][0]), bits(new[0]), not unequal(new, theirs[each])[0])
                for each, new in ours.items()
            ]
            if reasons.to_explain(decision):
                explained[0] = strongest(model.call("explain", now)["effects"], model.declaration.feature_names)[0]
        value = model.score(now)
        scores.append(_score_field(f"version {scored.model_version}", scored.value, value))
        values.append(float(value[0]))
    told = reasons.compared([decision], explained).get(0, [])
    return values[0], [
        *features,
        *scores,
        *(Field("reasons", each.name, each.journaled, each.recomputed, each.equal) for each in told),
    ]


def _score_field(name: str, was: float, now: Any) -> Field:
    """A score as journaled and as computed again, float32 [1]."""
    same = not unequal(now.astype(np.float64), np.array([was], np.float64))[0]
    # A journaled score that is no float32, as it must be one, is shown whole.
    single = float(np.float32(was)) == was
    shown = np.float32(was) if single else np.float64(was)
    return Field("score", name, bits(shown), bits(now[0]), bool(same))


def _shadow_fields(
    versions_: Versions,
    decision: Decision,
    paid: Transaction,
    histories: dict[str, Integers],
    said: Mapping[int, float | None],
) -> list[Field]:
    """What shadows said of a decision, those that gave a score."""
    found = []
    for version, value in said.items():
        if value is not None:
            model = versions_.loaded(version)
            now = model.score(inputs([paid], histories[model.declaration.fingerprint]))
            found.append(_score_field(f"version {version} (shadow)", value, now))
    return found


def _route_fields(decision: Decision, assignment: Assignment, account_id: str) -> list[Field]:
    """Why its version decided; that an arm failed is taken on the journal's word, which the audit does not."""
    version, route = assignment.routed(account_id)
    if decision.route == "fallback" and route != "champion":
        version, route = assignment.decides, "fallback"
    found = [
        Field("outcome", "assignment", decision.assignment, assignment.version,
              decision.assignment == assignment.version),
        Field("outcome", "route", decision.route, route, decision.route == route),
    ]  # fmt: skip
    if decision.scores:
        was, now = str(decision.scores[0].model_version), str(version)
        found.append(Field("outcome", "deciding version", was, now, was == now))
    return found


def _outcome_fields(
    decision: Decision, paid: Transaction, score: float | None, policies: dict[str, Policy]
) -> list[Field]:
    policy = policies.get(decision.policy_version)
    if policy is None:
        return [Field("outcome", "policy_version", decision.policy_version, "not journaled", False)]
    given = Score(decision.scores[0].model_version, score) if score is not None else None
    outcome, rules, sampled = decide(paid, given, policy)
    was = ", ".join(reasons.without_features(decision))
    now = ", ".join(each.code for each in rules)
    found = [
        Field("outcome", "outcome", decision.outcome.value, outcome.value, decision.outcome is outcome),
        Field("outcome", "reasons", was, now, was == now),
    ]
    if sampled or decision.sample_per_mille:
        drawn = f"{decision.sample_per_mille} of 1000", f"{sampled} of 1000"
        found.append(Field("outcome", "let through", *drawn, decision.sample_per_mille == sampled))
    return found
