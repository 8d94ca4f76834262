"""Replay of one decision: computed again under the versions of then, and shown field by field.

Nothing of what the record says is taken on trust but who paid whom: the declaration is the one that the record names,
the history comes from the archive and the journal before it, features and score from the files of the model version,
the outcome from the policy as the journal brought it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from kafka import TopicPartition
from kafka.errors import OffsetOutOfRangeError

from audit.bits import bits, unequal
from audit.models import Versions, inputs
from audit.past import Journal, find, history_of
from features.declaration import DECLARATION
from features.grammar import Declaration
from features.history import Integers
from plumbline import transaction as transactions
from plumbline.decision import Decision
from plumbline.errors import FingerprintMismatch, Invalid, Refused
from plumbline.policy import Policy, decide
from plumbline.transaction import Transaction
from streaming.kafka import end_offsets, reader
from training.export import declaration_of, versions

LAYERS: Final = ("transaction", "history", "features", "score", "outcome")
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


@dataclass(frozen=True, slots=True)
class Sources:
    """What a replay reads: the journal, the archive before it (None: none; until_us: how far), and models' files."""

    journal: Journal
    archive: Path | None
    until_us: int | None
    models: Path


def replay(sources: Sources, versions_: Versions, transaction_id: str, hint: int | None = None) -> Replayed:
    """Compute a past decision again; hint: its sequence number, where SQL knows it.

    Raises TransactionNotFound; ModelVersionNotFound when its model's files are gone; Refused when its declaration is
    neither this release's nor that of any model here; BrokerUnavailable, InvalidArchive.
    """
    sequence, decision = find(sources.journal, transaction_id, hint)
    declared = _declared(sources.models, decision)
    history, policies = history_of(sources.journal, sources.archive, sources.until_us, sequence, decision, declared)
    raw = _raw(sources.journal.bootstrap, decision)
    again = _parsed(raw, decision) if raw is not None else None
    fields = _transaction_fields(decision, raw, again)
    paid = again or decision.transaction
    fields += [
        Field("history", name, bits(was), bits(now), was == now)
        for name, was, now in _pairs(declared.history_names, decision.history, history[0].tolist())
    ]
    score = None
    if decision.scores:
        score, found = _model_fields(versions_, decision, paid, history)
        fields += found
    fields += _outcome_fields(decision, paid, score, policies)
    version = decision.scores[0].model_version if decision.scores else None
    return Replayed(
        transaction_id, sequence, decision.fingerprint, version, decision.policy_version, raw is not None, fields
    )


def _declared(models: Path, decision: Decision) -> Declaration:
    """The declaration that a decision names: this release's, or one that a model here was trained under."""
    if decision.fingerprint == DECLARATION.fingerprint:
        return DECLARATION
    for version in versions(models):
        try:
            declared = declaration_of(models / str(version))
        except (Refused, FingerprintMismatch):
            continue
        if declared.fingerprint == decision.fingerprint:
            return declared
    raise Refused(
        f"transaction {decision.transaction.transaction_id} was decided under declaration {decision.fingerprint}: "
        f"neither this release's, nor that of any model in {models}; bring the files of the model that scored it"
    )


def _pairs(names: Sequence[str], was: Sequence[int], now: Sequence[int]) -> list[tuple[str, int, int]]:
    if len(was) != len(names):
        raise Refused(f"the record holds {len(was)} measures, its declaration has {len(names)}: it is not whole")
    return list(zip(names, was, now, strict=True))


def _raw(bootstrap: str, decision: Decision) -> bytes | None:
    """The message that was decided, as the broker still holds it; None when it is gone."""
    source = decision.source
    partition = TopicPartition(source.topic, source.partition)
    if end_offsets(bootstrap, [source.topic]).get(partition, 0) <= source.offset:
        return None
    consumer = reader(bootstrap, {partition: source.offset}, most_records=1)
    try:
        for _ in range(RAW_POLLS):
            for record in consumer.poll(timeout_ms=500).get(partition, []):
                found: bytes | None = record.value if record.offset == source.offset else None
                return found
    except OffsetOutOfRangeError:
        return None
    finally:
        consumer.close()
    return None


def _parsed(raw: bytes, decision: Decision) -> Transaction | None:
    try:
        return transactions.parse(raw, decision.decided_at)
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
    versions_: Versions, decision: Decision, paid: Transaction, history: Integers
) -> tuple[float, list[Field]]:
    """Features over both histories by one graph, and the score; returns the recomputed score too."""
    scored = decision.scores[0]
    model = versions_.loaded(scored.model_version)
    now = inputs([paid], history)
    was = inputs([decision.transaction], np.array([decision.history], np.int64))
    ours, theirs = model.call("transform", now), model.call("transform", was)
    fields = [
        Field("features", name, bits(theirs[name][0]), bits(values[0]), not unequal(values, theirs[name])[0])
        for name, values in ours.items()
    ]
    value = model.score(now)
    exact = np.array([scored.value], np.float64)
    same = not unequal(value.astype(np.float64), exact)[0]
    # A journaled score that is no float32, as it must be one, is shown whole.
    shown = np.float32(scored.value) if float(np.float32(scored.value)) == scored.value else np.float64(scored.value)
    fields.append(Field("score", f"version {scored.model_version}", bits(shown), bits(value[0]), bool(same)))
    return float(value[0]), fields


def _outcome_fields(
    decision: Decision, paid: Transaction, score: float | None, policies: dict[str, Policy]
) -> list[Field]:
    policy = policies.get(decision.policy_version)
    if policy is None:
        return [Field("outcome", "policy_version", decision.policy_version, "not journaled", False)]
    outcome, reasons = decide(paid, score, policy)
    was = ", ".join(each.code for each in decision.reasons if each.kind != "feature")
    now = ", ".join(each.code for each in reasons)
    return [
        Field("outcome", "outcome", decision.outcome.value, outcome.value, decision.outcome is outcome),
        Field("outcome", "reasons", was, now, was == now),
    ]
