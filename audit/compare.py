"""Bit by bit: what was journaled against what was computed again, for one decision or for a chunk of them.

Whoever holds recomputed numbers can compare: the audit with those of the Beam pipeline and of its sweep, the continuous
audit with those of its own fold, a replay with one decision's. Nothing here reads a journal, a disk or a clock; the
models are asked through `Versions`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from audit.bits import bits, distance_ulps, unequal
from audit.models import Versions, inputs
from audit.report import Difference, Report, Tally
from features.declaration import HISTORY_NAMES
from features.history import Flags, Integers
from plumbline.decision import Decision
from plumbline.errors import FingerprintMismatch
from plumbline.policy import Policy, decide
from plumbline.transaction import Transaction

SCORER_ROWS: Final = 256
"""Rows of the journaled side transformed at a time, as by a scorer; the recomputed side comes whole, reversed."""

Numbered = tuple[int, Decision]


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
) -> None:
    """Compare history, features, score and outcome of n decisions, and add to the report.

    history: int64 [n, measures], recomputed; found: bool [n], whether the recomputation has the row at all;
    policies: by version, as the journal brought them; transactions: the n transactions parsed again from the raw
    messages, the journaled ones when not given; layer: `history` or `sweep`, where differing measures are reported;
    names: the measures of the declaration that the decisions were made under.
    """
    if not decisions:
        return
    recomputed = [decision.transaction for _, decision in decisions] if transactions is None else transactions
    report.decisions += len(decisions)
    for sequence, decision in decisions:
        report.see(sequence)
        report.policies[decision.policy_version] += 1
        report.fingerprints[decision.fingerprint] += 1
    compare_history(report, decisions, history, found, layer, names)
    by_version: dict[int, list[int]] = {}
    for n, (_, decision) in enumerate(decisions):
        if decision.scores:
            by_version.setdefault(decision.scores[0].model_version, []).append(n)
        else:
            report.unscored += 1
    scores: dict[int, float] = {}
    for version, rows in by_version.items():
        scores |= _compare_model(
            report, [decisions[n] for n in rows], [recomputed[n] for n in rows], history[rows], rows, version, versions
        )
    report.add("outcome", len(decisions), _outcomes(decisions, recomputed, scores, policies))


def compare_history(
    report: Report,
    decisions: Sequence[Numbered],
    history: Integers,
    found: Flags,
    layer: str = "history",
    names: Sequence[str] = HISTORY_NAMES,
) -> None:
    """Compare the measures of n decisions alone; arguments as `compare`'s."""
    report.add(layer, len(decisions), _measures(decisions, history, found, layer, names))


def _measures(
    decisions: Sequence[Numbered], history: Integers, found: Flags, layer: str, names: Sequence[str]
) -> Iterator[Difference]:
    whole = [n for n, (_, decision) in enumerate(decisions) if len(decision.history) == len(names)]
    differs = np.ones(len(decisions), np.bool_)
    if whole:
        journaled = np.array([decisions[n][1].history for n in whole], np.int64)
        differs[whole] = (journaled != history[whole]).any(axis=1)
    for n in np.flatnonzero(differs | ~found).tolist():
        sequence, decision = decisions[n]
        if not found[n]:
            yield _difference(sequence, decision, layer, "row", "present", "absent")
        elif len(decision.history) != len(names):
            yield _difference(
                sequence, decision, layer, "measures", f"{len(decision.history)} numbers", f"{len(names)} numbers"
            )
        else:
            for name, was, value in zip(names, decision.history, history[n].tolist(), strict=True):
                if was != value:
                    yield _difference(sequence, decision, layer, name, bits(was), bits(value))


def _compare_model(
    report: Report,
    decisions: Sequence[Numbered],
    transactions: Sequence[Transaction],
    history: Integers,
    rows: Sequence[int],
    version: int,
    versions: Versions,
) -> dict[int, float]:
    """Features and scores of decisions that one version scored; returns the recomputed scores by row."""
    tally = report.by_version.setdefault(version, Tally())
    tally.compared += len(decisions)
    try:
        model = versions.loaded(version)
    except FingerprintMismatch as error:
        found = [
            _difference(sequence, decision, "score", "declaration", decision.fingerprint, error.found)
            for sequence, decision in decisions
        ]
        report.add("score", len(decisions), found)
        tally.different += len(decisions)
        return {}
    recomputed = inputs(transactions, history)
    width = history.shape[1]
    journaled = inputs(
        [decision.transaction for _, decision in decisions],
        np.array([decision.history if len(decision.history) == width else (0,) * width for _, decision in decisions],
                 np.int64),
    )  # fmt: skip
    ours = _reversed(lambda given: model.call("transform", given), recomputed)
    theirs = _in_parts(lambda given: model.call("transform", given), journaled, len(decisions))
    report.add("features", len(decisions), _features(decisions, ours, theirs))
    values = _reversed(lambda given: {"score": model.score(given)}, recomputed)["score"]
    different = list(_scores(decisions, values, version))
    tally.different += len(different)
    report.add("score", len(decisions), different)
    return dict(zip(rows, values.astype(np.float64).tolist(), strict=True))


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


def _features(decisions: Sequence[Numbered], ours: Outputs, theirs: Outputs) -> Iterator[Difference]:
    for name, values in ours.items():
        for n in np.flatnonzero(unequal(values, theirs[name])).tolist():
            yield _difference(*decisions[n], "features", name, bits(theirs[name][n]), bits(values[n]))


def _scores(decisions: Sequence[Numbered], values: np.ndarray, version: int) -> Iterator[Difference]:
    scored = np.array([decision.scores[0].value for _, decision in decisions], np.float64)
    for n in np.flatnonzero(unequal(values.astype(np.float64), scored)).tolist():
        was, now = np.float64(scored[n]), np.float64(values[n])
        distance = distance_ulps(float(was), float(now))
        # A journaled score that is a float32, as it must be, is shown as one.
        journaled, recomputed = (bits(each if distance is None else np.float32(each)) for each in (was, now))
        yield _difference(*decisions[n], "score", f"version {version}", journaled, recomputed, distance)


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
        outcome, reasons = decide(transaction, scores.get(n), policy)
        if outcome is not decision.outcome:
            yield _difference(sequence, decision, "outcome", "outcome", decision.outcome.value, outcome.value)
        was = [each.code for each in decision.reasons if each.kind != "feature"]
        if was != [each.code for each in reasons]:
            now = ", ".join(each.code for each in reasons) or "none"
            yield _difference(sequence, decision, "outcome", "reasons", ", ".join(was) or "none", now)


def _difference(
    sequence: int, decision: Decision, layer: str, name: str, journaled: str, recomputed: str,
    distance: int | None = None,
) -> Difference:  # fmt: skip
    return Difference(
        sequence=sequence,
        transaction_id=decision.transaction.transaction_id,
        layer=layer,
        name=name,
        journaled=journaled,
        recomputed=recomputed,
        distance_ulps=distance,
        fingerprint=decision.fingerprint,
        model_version=decision.scores[0].model_version if decision.scores else None,
    )
