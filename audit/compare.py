"""Bit by bit: what was journaled against what was computed again, for one decision or for a chunk of them.

Whoever holds recomputed numbers can compare: the audit with those of the Beam pipeline and of its sweep, the continuous
audit with those of its own fold, a replay with one decision's. Nothing here reads a journal, a disk or a clock; the
models are asked through `Versions`.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from audit import reasons
from audit.bits import bits, distance_ulps, unequal
from audit.measures import differences, journaled
from audit.models import Versions, inputs
from audit.reasons import Reasons
from audit.report import Difference, Report, Tally
from audit.shadowed import Row
from features.declaration import HISTORY_NAMES, fingerprint
from features.history import Flags, Integers
from plumbline.decision import Decision, Score
from plumbline.errors import FingerprintMismatch
from plumbline.policy import Policy, decide
from plumbline.transaction import Transaction
from streaming.deciding import strongest
from training.evaluate import Loaded

SCORER_ROWS: Final = 256
"""Rows of the journaled side transformed at a time, as by a scorer; the recomputed side comes whole, reversed."""

Numbered = tuple[int, Decision]


@dataclass(frozen=True, slots=True)
class Recomputed:
    """History of n decisions under one declaration: the measures' names, and int64 [n, measures]."""

    names: Sequence[str]
    history: Integers


def compare(
    report: Report,
    decisions: Sequence[Numbered],
    history: Integers,
    found: Flags,
    policies: Mapping[str, Policy],
    versions: Versions,
    *,
    transactions: Sequence[Transaction] | None = None,
    layer: str = "history",
    names: Sequence[str] = HISTORY_NAMES,
    declared: str | None = None,
    beside: Mapping[str, Recomputed] | None = None,
) -> None:
    """Compare history, features, every score and the outcome of n decisions, and add to the report.

    history: int64 [n, measures], recomputed; found: bool [n], whether the recomputation has the row at all;
    policies: by version, as the journal brought them; transactions: the n transactions parsed again from the raw
    messages, the journaled ones when not given; layer: `history` or `sweep`, where differing measures are reported;
    names, declared: the measures and the fingerprint of the deciding declaration, this release's when not given;
    beside: history under the other declarations in force, by fingerprint.
    """
    if not decisions:
        return
    parsed = [decision.transaction for _, decision in decisions] if transactions is None else transactions
    declared = declared or fingerprint()
    report.decisions += len(decisions)
    for sequence, decision in decisions:
        report.see(sequence)
        report.policies[decision.policy_version] += 1
        report.fingerprints[decision.fingerprint] += 1
        report.unscored += not decision.scores
    pasts = {declared: Recomputed(names, history), **(beside or {})}
    compare_history(report, decisions, pasts, found, layer, declared)
    scores: dict[int, float] = {}
    explained: dict[int, Reasons] = {}
    for version, asked in _by_version(decisions).items():
        found_scores, found_reasons = _compare_model(report, version, asked, parsed, pasts, versions)
        scores |= found_scores
        explained |= found_reasons
    report.add("outcome", len(decisions), _outcomes(decisions, parsed, scores, policies))
    told = reasons.compared([decision for _, decision in decisions], explained)
    report.add("reasons", len(told), _reasons(decisions, told))


def compare_history(
    report: Report,
    decisions: Sequence[Numbered],
    pasts: Mapping[str, Recomputed],
    found: Flags,
    layer: str,
    declared: str,
) -> None:
    """Compare the measures of n decisions alone, under every declaration in force; declared: the deciding one."""
    parts = [_foreign(decisions, pasts, layer)]
    for name, past in pasts.items():
        rows = journaled(decisions, len(past.names), None if name == declared else name)
        parts.append(differences(rows, past.history, found, layer, past.names, name))
    report.add(layer, len(decisions), itertools.chain.from_iterable(parts))


def _foreign(decisions: Sequence[Numbered], pasts: Mapping[str, Recomputed], layer: str) -> Iterator[Difference]:
    """Histories that stand in a record beside the deciding one, of declarations that were not in force."""
    for sequence, decision in decisions:
        for each in decision.other_histories:
            if each.fingerprint not in pasts:
                yield _difference(sequence, decision, layer, "declaration", each.fingerprint, "not in force")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A score that one version gave: the row of its decision, whether it decided, and the decision."""

    row: int
    deciding: bool
    sequence: int
    decision: Decision
    score: Score


def _by_version(decisions: Sequence[Numbered]) -> dict[int, list[_Asked]]:
    found: dict[int, list[_Asked]] = {}
    for row, (sequence, decision) in enumerate(decisions):
        for place, score in enumerate(decision.scores):
            found.setdefault(score.model_version, []).append(_Asked(row, place == 0, sequence, decision, score))
    return found


def _compare_model(
    report: Report,
    version: int,
    asked: Sequence[_Asked],
    parsed: Sequence[Transaction],
    pasts: Mapping[str, Recomputed],
    versions: Versions,
) -> tuple[dict[int, float], dict[int, Reasons]]:
    """Features and scores that one version gave.

    Returns the recomputed scores of those that decided, and the reasons of their alerts, by row.
    """
    tally = report.by_version.setdefault(version, Tally())
    tally.compared += len(asked)
    try:
        model = versions.loaded(version)
        declared = model.declaration.fingerprint
    except FingerprintMismatch as error:
        declared = error.found
    if declared not in pasts:
        report.add("score", len(asked), (_score_difference(each, "declaration", each.decision.fingerprint, declared)
                                         for each in asked))  # fmt: skip
        tally.different += len(asked)
        return {}, {}
    past = pasts[declared]
    rows = [each.row for each in asked]
    recomputed = inputs([parsed[row] for row in rows], past.history[rows])
    numbered = [(each.sequence, each.decision) for each in asked]
    told = journaled(numbered, len(past.names), declared)
    as_journaled = inputs([each.decision.transaction for each in asked], told.history)
    ours = _reversed(lambda given: model.call("transform", given), recomputed)
    theirs = _in_parts(lambda given: model.call("transform", given), as_journaled, len(asked))
    report.add("features", len(asked), _features(asked, ours, theirs))
    values = _reversed(lambda given: {"score": model.score(given)}, recomputed)["score"]
    different = list(_scores(asked, values, version))
    tally.different += len(different)
    report.add("score", len(asked), different)
    numbers = values.astype(np.float64).tolist()
    decided = {each.row: value for each, value in zip(asked, numbers, strict=True) if each.deciding}
    return decided, _explained(model, asked, recomputed)


def _explained(model: Loaded, asked: Sequence[_Asked], given: dict[str, Any]) -> dict[int, Reasons]:
    """The reasons of the alerts among n rows, by row; given: recomputed inputs [n]."""
    alerts = [n for n, each in enumerate(asked) if each.deciding and reasons.to_explain(each.decision)]
    if not alerts:
        return {}
    of_alerts = {name: column[alerts] for name, column in given.items()}
    effects = _reversed(lambda given: {"effects": model.call("explain", given)["effects"]}, of_alerts)["effects"]
    found = strongest(effects, model.declaration.feature_names)
    return {asked[n].row: each for n, each in zip(alerts, found, strict=True)}


def compare_shadow(report: Report, version: int, rows: Sequence[Row], versions: Versions) -> None:
    """Compare what a shadow said of decisions: features and scores, and add to the report."""
    by_declaration: dict[str, list[Row]] = {}
    for each in rows:
        by_declaration.setdefault(each.fingerprint, []).append(each)
    for name, part in by_declaration.items():
        asked = [
            _Asked(n, False, each.sequence, each.decision, Score(version, each.value)) for n, each in enumerate(part)
        ]
        past = Recomputed(part[0].names, np.array([each.history for each in part], np.int64))
        _compare_model(report, version, asked, [each.transaction for each in part], {name: past}, versions)


Outputs = dict[str, np.ndarray]


def _reversed(call: Callable[[dict[str, Any]], Outputs], given: dict[str, Any]) -> Outputs:
    """All rows at once, the last one first: other neighbours, other places, another size than the scorer's."""
    return {name: values[::-1] for name, values in call({name: each[::-1] for name, each in given.items()}).items()}


def _in_parts(call: Callable[[dict[str, Any]], Outputs], given: dict[str, Any], rows: int) -> Outputs:
    """As a scorer asks: a few rows at a time, in order."""
    parts = [
        call({name: each[begin : begin + SCORER_ROWS] for name, each in given.items()})
        for begin in range(0, rows, SCORER_ROWS)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _features(asked: Sequence[_Asked], ours: Outputs, theirs: Outputs) -> Iterator[Difference]:
    for name, values in ours.items():
        for n in np.flatnonzero(unequal(values, theirs[name])).tolist():
            each = asked[n]
            shown = bits(theirs[name][n]), bits(values[n])
            yield _difference(each.sequence, each.decision, "features", name, *shown, version=each.score.model_version)


def _scores(asked: Sequence[_Asked], values: np.ndarray, version: int) -> Iterator[Difference]:
    scored = np.array([each.score.value for each in asked], np.float64)
    for n in np.flatnonzero(unequal(values.astype(np.float64), scored)).tolist():
        was, now = np.float64(scored[n]), np.float64(values[n])
        distance = distance_ulps(float(was), float(now))
        # A journaled score that is a float32, as it must be, is shown as one.
        told, ours = (bits(each if distance is None else np.float32(each)) for each in (was, now))
        yield _score_difference(asked[n], f"version {version}", told, ours, distance)


def _outcomes(
    decisions: Sequence[Numbered],
    transactions: Sequence[Transaction],
    scores: Mapping[int, float],
    policies: Mapping[str, Policy],
) -> Iterator[Difference]:
    for n, ((sequence, decision), transaction) in enumerate(zip(decisions, transactions, strict=True)):
        policy = policies.get(decision.policy_version)
        if policy is None:
            yield _difference(sequence, decision, "outcome", "policy_version", decision.policy_version, "not journaled")
            continue
        if decision.scores and n not in scores:
            continue  # its version could not be asked, which the score layer tells
        score = Score(decision.scores[0].model_version, scores[n]) if decision.scores else None
        outcome, rules, sampled = decide(transaction, score, policy)
        if outcome is not decision.outcome:
            yield _difference(sequence, decision, "outcome", "outcome", decision.outcome.value, outcome.value)
        if sampled != decision.sample_per_mille:
            was_drawn, now_drawn = f"{decision.sample_per_mille} of 1000", f"{sampled} of 1000"
            yield _difference(sequence, decision, "outcome", "let through", was_drawn, now_drawn)
        was = reasons.without_features(decision)
        if was != [each.code for each in rules]:
            now = ", ".join(each.code for each in rules) or "none"
            yield _difference(sequence, decision, "outcome", "reasons", ", ".join(was) or "none", now)


def _reasons(decisions: Sequence[Numbered], told: Mapping[int, Sequence[reasons.Told]]) -> Iterator[Difference]:
    for row, every in told.items():
        for each in every:
            if not each.equal:
                shown = each.name, each.journaled, each.recomputed
                yield _difference(*decisions[row], "reasons", *shown, distance=each.distance_ulps)


def _score_difference(asked: _Asked, name: str, was: str, now: str, distance: int | None = None) -> Difference:
    return _difference(
        asked.sequence, asked.decision, "score", name, was, now, distance=distance, version=asked.score.model_version
    )


def _difference(
    sequence: int, decision: Decision, layer: str, name: str, journaled: str, recomputed: str,
    *, distance: int | None = None, version: int | None = None,
) -> Difference:  # fmt: skip
    deciding = decision.scores[0].model_version if decision.scores else None
    return Difference(
        sequence=sequence,
        transaction_id=decision.transaction.transaction_id,
        layer=layer,
        name=name,
        journaled=journaled,
        recomputed=recomputed,
        distance_ulps=distance,
        fingerprint=decision.fingerprint,
        model_version=deciding if version is None else version,
    )
