"""The gate: whether a candidate may come into the shadow, as a pure function of what was scored and measured.

Champion and candidate have scored the same rows of a later window. Absolute checks ask whether the candidate is any
good; compared ones whether it is worse than the champion: surely worse, as a paired bootstrap of the accounts has it,
or by more than may be lost however wide the interval is. Facts about labels, files, seeds and the parity gate are held
against their limits. Every check says in words and figures what it found; one that was refused refuses the candidate,
and nothing else changes: the champion stays.

All compared checks share `Limits.alpha`, the probability that a candidate just as good is called worse by any of them.
docs/gate.md has every limit with its reason, and what simulations say of equal and of worse candidates.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from plumbline.errors import Invalid
from plumbline.transaction import DAY_US
from retrain.gate_limits import Limits
from retrain.gate_rules import Check, bounded, comparable, compared, declines, fact, spread
from training.bootstrap import Draws, draw, ranked
from training.costs import Costs, Thresholds
from training.metrics import Array, Float64, ScoredRows, mean
from training.resampled import judged, resampled, resampled_slices, shown
from training.windows import day_name


class InvalidSides(Invalid):
    """Scores that cannot be compared."""


@dataclass(frozen=True, slots=True)
class Side:
    """A version on the window: its scored rows, the thresholds it has or would have, and what was measured of it.

    model_bytes: size of its files; latency_ms: within which 99 of 100 single rows are scored; None: not measured.
    """

    rows: ScoredRows
    thresholds: Thresholds
    model_bytes: int | None = None
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """The verdict: whether the candidate passed, every check, and each side's metrics with what a card shows of them.

    metrics: by side (`candidate`, `champion`) and name: the value, and `low` and `high` of 19 cases of 20.
    """

    passed: bool
    checks: tuple[Check, ...]
    metrics: Mapping[str, Mapping[str, Mapping[str, float | None]]]
    limits: Limits
    seed: int

    @property
    def verdict(self) -> str:
        """`passed` or `refused`."""
        return "passed" if self.passed else "refused"

    @property
    def refusals(self) -> tuple[Check, ...]:
        """The checks that refused it."""
        return tuple(each for each in self.checks if not each.passed)

    @property
    def warnings(self) -> tuple[Check, ...]:
        """The checks whose finding a person must accept before the version decides."""
        return tuple(each for each in self.checks if each.warned)

    def facts(self) -> dict[str, Any]:
        """Everything as JSON: for the run's manifest, and for the card, where the console finds it."""
        return {
            "verdict": self.verdict,
            "why": [each.words for each in self.refusals],
            "why_zh": [each.words_zh for each in self.refusals],
            "warnings": [each.words for each in self.warnings],
            "warnings_zh": [each.words_zh for each in self.warnings],
            "checks": [each.facts() for each in self.checks],
            "metrics": {side: dict(each) for side, each in self.metrics.items()},
            "limits": msgspec.to_builtins(self.limits),
            "seed": self.seed,
        }


def judge(
    candidate: Side,
    champion: Side | None,
    limits: Limits,
    costs: Costs,
    *,
    seed: int,
    seeds: Sequence[Array] = (),
    labels: Mapping[str, float] | None = None,
    parity: Mapping[str, Any] | None = None,
    compared_from: int | None = 0,
) -> Gate:
    """Judge a candidate against the champion, or alone where there is none.

    Both sides hold the same transactions, in any order. seed: of the resamples; seeds: scores float [n] of networks
    fitted with other seeds, in the order of the candidate's rows; labels: facts of the step that gathered the labels;
    parity: what `release.parity` found, None where no server was asked; compared_from: the first day, since 1970, from
    which the champion learned nothing, None where nobody knows: the versions are compared on the days from it on alone.
    Raises InvalidSides for sides of other transactions, or with other truths.
    """
    order = np.argsort(candidate.rows.transaction_ids, kind="stable")
    ours = replace(candidate, rows=candidate.rows.take(order))
    theirs = None if champion is None else replace(champion, rows=champion.rows.in_order())
    if theirs is not None:
        _require_same(ours.rows, theirs.rows)
    checks = [*_evidence(ours.rows, limits), *_labels(labels or {}, limits)]
    metrics: dict[str, dict[str, dict[str, float | None]]] = {}
    if _both_kinds(ours.rows):
        draws = draw(ours.rows.accounts, seed, limits.resamples)
        found = resampled(ours.rows, draws, ours.thresholds, costs)
        metrics = {"candidate": _shown(found)}
        checks += _absolute(ours, found, limits, costs)
        if theirs is not None:
            compared_checks, compared_metrics = _against(ours, theirs, compared_from, limits, costs, seed)
            checks += compared_checks
            metrics |= compared_metrics
        checks += _slice_lifts(ours.rows, draws, limits)
        checks += _seeds(ours.rows, [each[order] for each in seeds], draws, limits)
    checks += _measured(ours, theirs, parity, limits)
    return Gate(all(each.passed for each in checks), tuple(checks), metrics, limits, seed)


def _against(
    ours: Side, theirs: Side, compared_from: int | None, limits: Limits, costs: Costs, seed: int
) -> tuple[list[Check], dict[str, dict[str, dict[str, float | None]]]]:
    """The compared checks, on the days from which the champion learned nothing, and both sides' metrics on these days.

    Where too little is left, that alone is the finding, and nothing is compared.
    """
    later = ours.rows.occurred_at >= (0 if compared_from is None else compared_from * DAY_US)
    a, b = replace(ours, rows=ours.rows.take(later)), replace(theirs, rows=theirs.rows.take(later))
    accounts = len(np.unique(a.rows.accounts[a.rows.frauds.astype(bool)]))
    since = "" if compared_from is None else day_name(max(compared_from, int(ours.rows.occurred_at.min()) // DAY_US))
    enough = comparable(accounts, len(a.rows.scores), since, limits)
    if not enough.passed or not _both_kinds(a.rows):
        return [enough], {}
    draws = draw(a.rows.accounts, seed, limits.resamples)
    found, of_theirs = (resampled(each.rows, draws, each.thresholds, costs) for each in (a, b))
    checks = [enough, *_compared(found, of_theirs, limits), *_slice_drops(a.rows, b.rows, draws, limits)]
    return checks, {"candidate": _shown(found), "champion": _shown(of_theirs)}


def _both_kinds(rows: ScoredRows) -> bool:
    return bool(rows.frauds.any() and not rows.frauds.all())


def _require_same(ours: ScoredRows, theirs: ScoredRows) -> None:
    if not np.array_equal(ours.transaction_ids, theirs.transaction_ids):
        counts = {"candidate": len(ours.scores), "champion": len(theirs.scores)}
        raise InvalidSides("gate", "transactions", counts, "the same transactions on both sides")
    if not np.array_equal(ours.frauds, theirs.frauds):
        different = int(np.count_nonzero(ours.frauds != theirs.frauds))
        raise InvalidSides("gate", "frauds", different, "0 transactions whose truth differs between the sides")


def _evidence(rows: ScoredRows, limits: Limits) -> Iterator[Check]:
    accounts = len(np.unique(rows.accounts[rows.frauds.astype(bool)]))
    yield bounded("evidence", float(len(rows.scores)), least=limits.rows_least, unit=("rows", "行"))
    yield bounded("evidence", float(accounts), least=limits.frauds_least, unit=("defrauded accounts", "个被盗刷账户"))


def _labels(facts: Mapping[str, float], limits: Limits) -> Iterator[Check]:
    yield fact("labels_changed", facts.get("labels_changed_share"), limits.labels_changed_most)
    yield fact("labels_unknown", facts.get("labels_unknown_share"), limits.labels_unknown_most)
    yield fact("labels_contradicting", facts.get("labels_contradicting_share"), limits.labels_contradicting_most)
    now, before = facts.get("fraud_rate"), facts.get("fraud_rate_before")
    ratio = None if now is None or not before else now / before
    yield fact("fraud_rate", ratio, limits.fraud_rate_ratio_most, least=1 / limits.fraud_rate_ratio_most)


def _absolute(side: Side, found: Mapping[str, Float64], limits: Limits, costs: Costs) -> Iterator[Check]:
    """Whether it is any good; estimates count, and the intervals of 19 cases of 20 are told beside them."""
    rows = side.rows
    rate = mean(rows.frauds, rows.weights)
    yield bounded("lift", found["ap"] / rate, least=limits.lift_least)
    yield bounded("caught_lift", found["review_recall"] / costs.review_share, least=limits.caught_lift_least)
    if "cost" in found:
        none = float(np.sum(rows.counted() * np.asarray(rows.amounts_minor) * rows.frauds)) * (
            1 - costs.recovered_share
        )
        share = found["cost"] * float(np.sum(rows.counted())) / none if none else None
        yield bounded("cost_share", share, most=limits.cost_share_most)
        yield bounded("review_load", found["review_share"], most=costs.review_share * limits.load_ratio_most)
        declined = rows.scores.astype(np.float64) >= side.thresholds.decline_at
        yield declines(mean(declined, rows.weights), costs.decline_share_most)
    yield bounded(
        "expected_ratio", found["expected_ratio"], most=limits.expected_ratio_most,
        least=1 / limits.expected_ratio_most, surely=True,
    )  # fmt: skip


def _compared(ours: Mapping[str, Float64], theirs: Mapping[str, Float64], limits: Limits) -> Iterator[Check]:
    yield compared("ap", ours["ap"], theirs["ap"], limits, lost_most=limits.ap_drop_most)
    yield compared("cp100", ours["cp100"], theirs["cp100"], limits, lost_most=limits.cp100_drop_most)
    yield compared(
        "review_recall", ours["review_recall"], theirs["review_recall"], limits, lost_most=limits.recall_drop_most
    )
    if "cost" in ours and "cost" in theirs:
        most = limits.cost_rise_most * float(theirs["cost"][0])
        yield compared("cost", ours["cost"], theirs["cost"], limits, lost_most=most, less_is_better=True)
    yield compared(
        "ece", ours["ece"], theirs["ece"], limits, lost_most=limits.ece_rise_most, less_is_better=True,
        slack=limits.ece_slack,
    )  # fmt: skip


def _slice_lifts(rows: ScoredRows, draws: Draws, limits: Limits) -> Iterator[Check]:
    found = resampled_slices(rows, draws, limits.slice_frauds_least)
    for name, mask in judged(rows, limits.slice_frauds_least).items():
        rate = mean(rows.frauds[mask], None if rows.weights is None else rows.weights[mask])
        yield bounded("slice_lift", found[name] / rate, least=limits.slice_lift_least, part=name, surely=True)


def _slice_drops(ours: ScoredRows, theirs: ScoredRows, draws: Draws, limits: Limits) -> Iterator[Check]:
    found, of_theirs = (resampled_slices(rows, draws, limits.slice_frauds_least) for rows in (ours, theirs))
    for name in (name for name in found if name in of_theirs):
        yield compared(
            "slices", found[name], of_theirs[name], limits, lost_most=limits.slice_drop_most, part=name,
            among=len(found),
        )  # fmt: skip


def _seeds(rows: ScoredRows, seeds: Sequence[Array], draws: Draws, limits: Limits) -> Iterator[Check]:
    if not seeds:
        yield bounded(
            "seeds", None if not limits.seeds_least else 1.0, least=limits.seeds_least, unit=("seeds", "个种子")
        )
        return
    values = [ranked(each, draws, ())["ap"] for each in (rows, *(replace(rows, scores=scores) for scores in seeds))]
    yield bounded("seeds", float(len(values)), least=limits.seeds_least, unit=("seeds", "个种子"))
    yield spread("seeds", np.stack(values), limits.seeds_spread_most)


def _measured(ours: Side, theirs: Side | None, parity: Mapping[str, Any] | None, limits: Limits) -> Iterator[Check]:
    if parity is None:
        yield fact("parity", 1.0 if limits.parity_needed else None, 0.0)
    else:
        different = float(parity["different_scores"]) + float(parity["different_features"])
        yield fact("parity", different, 0.0, compared=int(parity["compared"]))
    yield fact("size", ours.model_bytes, limits.model_bytes_most)
    their_ms = None if theirs is None else theirs.latency_ms
    most = limits.latency_ms_most
    if their_ms is not None:
        most = min(most, max(limits.latency_floor_ms, their_ms * limits.latency_ratio_most))
    yield fact("latency", ours.latency_ms, most, champion=their_ms)


def _shown(found: Mapping[str, Float64]) -> dict[str, dict[str, float | None]]:
    def number(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    return {
        name: {"value": number(each.estimate), "low": number(each.low), "high": number(each.high)}
        for name, each in shown(dict(found)).items()
    }
