"""The gate on simulated windows: an equal candidate passes, worse ones of every kind do not, and the words say why."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks.gate import KINDS, NOISE, seen, side, window
from plumbline.errors import InvalidSetting
from plumbline.transaction import DAY_US
from retrain.gate import InvalidSides, judge
from retrain.gate_limits import RULES, Limits, read_limits
from training.costs import Costs, Thresholds
from training.windows import day_name, untouched_from

COSTS, LIMITS = Costs(), Limits(resamples=100, slice_frauds_least=12)


@pytest.fixture(scope="module")
def of():
    return window(20_000, 3)


@pytest.fixture(scope="module")
def champion(of):
    return replace(side(of, seen(of, NOISE, 1), COSTS), model_bytes=1_000_000, latency_ms=5.0)


@pytest.fixture(scope="module")
def equal(of):
    return replace(side(of, seen(of, NOISE, 2), COSTS), model_bytes=1_000_000, latency_ms=5.0)


def refused(gate):
    return {each.name for each in gate.refusals}


def test_an_equal_candidate_passes_and_every_check_has_words_and_figures(champion, equal):
    gate = judge(equal, champion, LIMITS, COSTS, seed=1, seeds=[champion.rows.scores])
    assert gate.passed, gate.facts()["why"]
    facts = json.loads(json.dumps(gate.facts(), allow_nan=False))
    assert facts["verdict"] == "passed"
    assert {each["name"] for each in facts["checks"]} == {rule.name for rule in RULES}
    for each in gate.checks:
        assert each.words
        assert any("\u4e00" <= letter <= "\u9fff" for letter in each.words_zh)
        if each.low is not None and each.name != "seeds":
            assert each.low <= each.high
    compared = [each for each in gate.checks if each.name == "ap"]
    assert compared[0].low < compared[0].candidate - compared[0].champion < compared[0].high
    assert facts["metrics"]["candidate"]["ap"]["value"] == compared[0].candidate


@pytest.mark.parametrize(
    ("kind", "by"),
    [("much_worse", {"ap", "review_recall"}), ("blind_in_a_channel", {"slices"}), ("twice_too_high", {"ece"})],
)  # fmt: skip
def test_a_worse_candidate_is_refused_for_what_is_worse_about_it(of, champion, kind, by):
    gate = judge(side(of, KINDS[kind](of, 2), COSTS), champion, LIMITS, COSTS, seed=1)
    assert not gate.passed
    assert by <= refused(gate)
    if kind == "blind_in_a_channel":
        assert {each.part for each in gate.refusals if each.name == "slices"} >= {"channel=atm"}
    if kind == "much_worse":
        (ap,) = [each for each in gate.refusals if each.name == "ap"]
        assert ap.words.startswith("average precision is 0.")
        assert "worse beyond chance" in ap.words
        assert "变差并非偶然" in ap.words_zh


def test_a_better_candidate_passes_even_where_it_is_better_beyond_chance(of, champion):
    gate = judge(side(of, seen(of, 0.05, 5), COSTS), champion, LIMITS, COSTS, seed=1)
    assert gate.passed, gate.facts()["why"]
    (ap,) = [each for each in gate.checks if each.name == "ap"]
    assert ap.low > 0


def test_without_a_champion_absolute_floors_hold(of, equal):
    alone = judge(equal, None, LIMITS, COSTS, seed=1)
    assert alone.passed
    assert not {"ap", "cost", "slices"} & {each.name for each in alone.checks}
    by_lot = np.random.default_rng(1).permutation(seen(of, NOISE, 1))
    gate = judge(side(of, by_lot, COSTS), None, LIMITS, COSTS, seed=1)
    assert {"lift", "caught_lift", "slice_lift"} <= refused(gate)


def test_the_order_of_the_rows_and_the_seed_are_all_that_chance_there_is(champion, equal):
    mixed = np.random.default_rng(1).permutation(len(equal.rows.scores))
    one = judge(equal, champion, LIMITS, COSTS, seed=4, seeds=[champion.rows.scores])
    other = judge(
        replace(equal, rows=equal.rows.take(mixed)), champion, LIMITS, COSTS, seed=4,
        seeds=[champion.rows.scores[mixed]],
    )  # fmt: skip
    assert one.facts() == other.facts()


POISON = {
    "labels_changed_share": 0.2, "labels_unknown_share": 0.3, "labels_contradicting_share": 0.4,
    "fraud_rate": 0.2, "fraud_rate_before": 0.01,
}  # fmt: skip


def test_labels_that_look_poisoned_refuse_whatever_the_scores_say(champion, equal):
    gate = judge(equal, champion, LIMITS, COSTS, seed=1, labels=POISON)
    assert refused(gate) == {"labels_changed", "labels_unknown", "labels_contradicting", "fraud_rate"}
    none_left = judge(equal, champion, LIMITS, COSTS, seed=1, labels={"fraud_rate": 0.0, "fraud_rate_before": 0.01})
    assert refused(none_left) == {"fraud_rate"}
    usual = {name: value / 100 for name, value in POISON.items()} | {"fraud_rate": 0.01, "fraud_rate_before": 0.01}
    assert judge(equal, champion, LIMITS, COSTS, seed=1, labels=usual).passed


@pytest.mark.parametrize(
    ("change", "by"),
    [
        ({"latency_ms": 16.0}, {"latency"}),
        ({"latency_ms": 9.0}, set()),
        ({"latency_ms": 60.0}, {"latency"}),
        ({"model_bytes": 10**9}, {"size"}),
        ({"thresholds": Thresholds(0.0, 2.0)}, {"review_load", "cost", "cost_share"}),
    ],
)
def test_size_latency_and_review_load_have_limits(champion, equal, change, by):
    gate = judge(replace(equal, **change), champion, LIMITS, COSTS, seed=1)
    assert refused(gate) == by


def test_the_parity_gate_counts_and_may_be_demanded(champion, equal):
    facts = {"compared": 1000, "different_scores": 2, "different_features": 0}
    gate = judge(equal, champion, LIMITS, COSTS, seed=1, parity=facts)
    assert refused(gate) == {"parity"}
    assert "2 values differ in 1,000 rows" in gate.refusals[0].words
    assert judge(equal, champion, LIMITS, COSTS, seed=1, parity={**facts, "different_scores": 0}).passed
    demanding = msgspec.structs.replace(LIMITS, parity_needed=True, seeds_least=3)
    assert refused(judge(equal, champion, demanding, COSTS, seed=1)) == {"parity", "seeds"}


def test_seeds_that_lie_far_apart_refuse(of, champion, equal):
    unlucky = side(of, seen(of, 5 * NOISE, 9), COSTS).rows.scores
    assert refused(judge(equal, champion, LIMITS, COSTS, seed=1, seeds=[unlucky])) == {"seeds"}


def test_a_window_that_proves_nothing_refuses(champion, equal):
    genuine = np.flatnonzero(~equal.rows.frauds)
    of_none = [replace(each, rows=each.rows.take(genuine)) for each in (equal, champion)]
    gate = judge(*of_none, LIMITS, COSTS, seed=1)
    assert refused(gate) == {"evidence"}
    assert gate.metrics == {}
    few = [replace(each, rows=each.rows.take(np.arange(900))) for each in (equal, champion)]
    assert len([each for each in judge(*few, LIMITS, COSTS, seed=1).refusals if each.name == "evidence"]) == 2


def test_sides_of_other_rows_or_truths_cannot_be_compared(champion, equal):
    with pytest.raises(InvalidSides, match="the same transactions"):
        judge(replace(equal, rows=equal.rows.take(np.arange(2000))), champion, LIMITS, COSTS, seed=1)
    other = replace(champion.rows, frauds=~champion.rows.frauds)
    with pytest.raises(InvalidSides, match="frauds is 20000"):
        judge(equal, replace(champion, rows=other), LIMITS, COSTS, seed=1)


def test_limits_are_read_from_a_file_and_a_wrong_name_is_refused(tmp_path):
    file = tmp_path / "gate.json"
    file.write_text('{"alpha": 0.01}')
    assert read_limits(file) == Limits(alpha=0.01)
    assert read_limits(None) == Limits()
    for wrong in ('{"alfa": 0.1}', '{"alpha": 0}', "["):
        file.write_text(wrong)
        with pytest.raises(InvalidSetting, match=r"gate\.json"):
            read_limits(file)


def test_every_check_and_every_limit_stands_in_the_docs():
    text = (Path(__file__).parents[2] / "docs" / "gate.md").read_text(encoding="utf-8")
    for name in (*(rule.name for rule in RULES), *Limits.__struct_fields__):
        assert f"| `{name}` |" in text, name


def days_of(side):
    return side.rows.occurred_at // DAY_US


def test_nothing_is_compared_on_days_from_which_the_champion_learned(champion, equal):
    days = days_of(equal)
    middle = int(np.median(days)) + 1
    seen_answers = np.where(days < middle, equal.rows.frauds.astype(np.float32), champion.rows.scores)
    taught = replace(champion, rows=replace(champion.rows, scores=seen_answers.astype(np.float32)))
    few = msgspec.structs.replace(LIMITS, rows_least=100, frauds_least=10)
    unfair = judge(equal, taught, few, COSTS, seed=1)
    assert {"ap", "review_recall"} <= refused(unfair)
    fair = judge(equal, taught, few, COSTS, seed=1, compared_from=middle)
    assert not {"ap", "cp100", "review_recall", "slices"} & refused(fair), fair.facts()["why"]
    later = judge(
        replace(equal, rows=equal.rows.take(days >= middle)), replace(taught, rows=taught.rows.take(days >= middle)),
        few, COSTS, seed=1,
    )  # fmt: skip
    both = [[each for each in gate.checks if each.name in {"ap", "cp100", "cost", "ece"}] for gate in (fair, later)]
    assert both[0] == both[1], "as if the window held the later days alone"
    assert fair.metrics["champion"] == later.metrics["champion"]
    (found,) = [each for each in fair.checks if each.name == "comparable"]
    assert f"from {day_name(middle)} on, {np.count_nonzero(days >= middle):,} rows" in found.words


@pytest.mark.parametrize(
    ("days_left", "words"), [(0, "0 rows and 0 defrauded accounts, expected 1,000 rows"), (None, "does not say")]
)
def test_a_champion_that_learned_from_every_day_cannot_be_compared(champion, equal, days_left, words):
    compared_from = None if days_left is None else int(days_of(equal).max()) + 1
    gate = judge(equal, champion, LIMITS, COSTS, seed=1, compared_from=compared_from)
    assert refused(gate) == {"comparable"}
    assert words in gate.refusals[0].words
    assert not {"ap", "cp100", "cost", "slices"} & {each.name for each in gate.checks}
    assert "champion" not in gate.metrics


def test_the_first_day_from_which_a_version_learned_nothing():
    card = {"train": "2026-01-01..2026-01-31", "delay_days": 7}
    assert day_name(untouched_from(card)) == "2026-02-08"
    assert [untouched_from(each) for each in ({}, {"train": "january", "delay_days": 7})] == [None, None]


def test_thresholds_that_decline_much_are_held_with_a_warning(equal, champion):
    many = replace(equal, thresholds=Thresholds(0.0, float(np.quantile(equal.rows.scores, 0.8))))
    gate = judge(many, champion, LIMITS, COSTS, seed=1)
    (held,) = gate.warnings
    assert (held.name, held.passed) == ("decline_load", True)
    assert "declines under its thresholds: 0.2, more than 0.02: held until a person accepts it" in held.words
    assert gate.facts()["warnings"] == [held.words]
    assert not judge(equal, champion, LIMITS, COSTS, seed=1).warnings


def test_no_interval_leaves_what_its_figure_can_be(of, champion):
    frauds = champion.rows.frauds
    perfect = side(of, np.where(frauds, 5.0, -5.0), COSTS)
    none = side(of, np.full(len(frauds), -12.0), COSTS)
    for candidate in (perfect, none):
        gate = judge(candidate, champion, LIMITS, COSTS, seed=1)
        for each in gate.metrics.values():
            for name, found in each.items():
                most = np.inf if name in {"cost", "expected_ratio"} else 1
                assert found["low"] is None or 0 <= found["low"] <= found["high"] <= most, name
        for check in gate.checks:
            if check.low is not None and check.name in {"ap", "cp100", "review_recall", "ece", "slices"}:
                assert -1 <= check.low <= check.high <= 1
            elif check.low is not None and check.name != "cost":
                assert check.low >= 0, check.name
