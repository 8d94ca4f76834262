"""Each rule by hand-made counts, and the fold against a naive count of the same entries."""

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.guardrails import FAULTS, stream, until_found
from plumbline.assignment import Arm, Assignment
from plumbline.decision import Decision, Outcome
from plumbline.errors import InvalidSetting
from plumbline.journal import Answered
from plumbline.transaction import SECOND_US
from release.counts import SCORE_EDGES, Calls, Counts, Pair, amount_band, score_bin
from release.guardrails import SLICES_MOST, closest, judge, passed
from release.limits import RULES, Limits, read_limits
from release.windows import Fold

LIMITS = Limits()
ASSIGNMENT = Assignment(version="on-trial", decides=1, arms=(Arm(2, 300),))
EXPECTED = {"slow": {"latency", "slower"}, "erring": {"errors"}, "shifted": {"scores", "outcomes", "slices"}}


def figures_of(counts, rule, paired=False):
    return [each for each in judge(counts, LIMITS, 0.5, paired=paired, budget=0.5) if each.rule == rule]


def calls(asked=400, failed=0, micros=5_000, slow=0):
    found = Calls()
    for n in range(asked):
        found.add(n < failed, 500_000 if n < slow else micros, LIMITS.latency_ms * 1000, 75_000)
    return found


def healthy():
    """Counts of a version that does exactly as the champion."""
    rows = {"all": Pair(2000, 2000), "review": Pair(40, 40), "alert": Pair(50, 50), "decline": Pair(10, 10)}
    rows |= {f"score {n}": Pair(180, 180) for n in range(11)}
    accounts = {key: pair for key, pair in rows.items() if key != "all"}
    return Counts(calls(), calls(), rows, accounts, seconds=600.0)


def test_a_version_like_the_champion_passes():
    found = judge(healthy(), LIMITS, 0.5, paired=False, budget=0.5)
    assert {each.rule for each in found} == {rule.name for rule in RULES} - {"slices"}
    assert not any(each.breached for each in found)
    assert passed([each for each in found if each.rule != "slices"])


def test_a_rule_without_its_sample_keeps_a_version_from_passing():
    counts = healthy()
    counts.calls = calls(asked=299)
    assert not passed(judge(counts, LIMITS, 0.5, paired=False, budget=0.5))
    assert not passed([])


def test_failed_calls_are_the_versions_fault_unless_the_champion_fails_as_well():
    counts = healthy()
    counts.calls = calls(failed=40)
    (error,) = figures_of(counts, "errors")
    assert error.breached
    assert error.value == 0.1
    counts.champion_calls = calls(failed=30)
    (error,) = figures_of(counts, "errors")
    assert not error.breached, "the server is down for both"
    assert error.evidence > error.needed


def test_p99_speaks_when_more_than_one_call_of_a_hundred_is_slow():
    counts = healthy()
    counts.calls = calls(slow=4)
    assert not figures_of(counts, "latency")[0].off, "exactly one of a hundred"
    counts.calls = calls(slow=40)
    assert figures_of(counts, "latency")[0].breached
    assert figures_of(counts, "latency")[0].value > 450


def test_scores_need_both_a_large_index_and_accounts_that_prove_it():
    counts = healthy()
    counts.rows |= {"score 9": Pair(900, 180), "score 0": Pair(20, 180)}
    assert not any(each.breached for each in figures_of(counts, "scores")), "the index alone may be one busy account"
    counts.accounts |= {"score 9": Pair(300, 60)}
    assert any(each.breached for each in figures_of(counts, "scores"))


@pytest.mark.parametrize(("rule", "key", "pair", "side"), [
    ("outcomes", "review", Pair(120, 20), "above"), ("outcomes", "decline", Pair(0, 60), "below"),
    ("slices", "alert channel ecom", Pair(2, 80), "below"), ("slices", "alert country DE", Pair(90, 12), "above"),
    ("missed", "missed", Pair(90, 12), "above"),
])  # fmt: skip
def test_rates_of_accounts_far_from_the_champions_are_found(rule, key, pair, side):
    counts = healthy()
    counts.accounts[key] = counts.rows[key] = pair
    counts.rows[key.replace("alert", "all", 1)] = Pair(2000, 2000)
    broken = [each for each in figures_of(counts, rule) if each.breached]
    assert [(each.side, each.rule) for each in broken] == [(side, rule)]
    assert closest(figures_of(counts, rule)) == broken
    assert figures_of(counts, rule, paired=True) == []


def test_alerts_are_too_many_only_beyond_the_review_capacity():
    counts = healthy()
    counts.accounts["alert"] = counts.rows["alert"] = Pair(300, 60)
    assert figures_of(counts, "load")[0].breached
    counts.seconds = 600.0 * 1000
    assert not figures_of(counts, "load")[0].breached


def test_precision_counts_what_people_labelled():
    counts = healthy()
    counts.rows |= {"caught": Pair(20, 60), "false alert": Pair(180, 30)}
    counts.accounts |= {"caught": Pair(20, 60), "false alert": Pair(100, 10)}
    (found,) = figures_of(counts, "precision")
    assert (found.value, found.reference) == (0.1, pytest.approx(60 / 90))
    assert found.breached


@given(st.floats(0, 1), st.integers(0, 10**9))
def test_bins_and_bands_hold_every_score_and_amount(score, amount):
    assert 0 <= score_bin(score) <= len(SCORE_EDGES)
    assert 0 <= amount_band(amount) <= 4


def test_the_fold_counts_what_a_plain_loop_counts():
    limits = msgspec.structs.replace(LIMITS, window_seconds=10)
    fold = Fold(ASSIGNMENT, 0, 1_800_000_000_000_000, limits)
    entries = list(stream(5, ASSIGNMENT, "", 2_000))
    for sequence, entry in entries:
        fold.take(sequence, entry)
    (trial,) = fold.trials
    decided = [each for _, each in entries if isinstance(each, Decision)]
    mine = [each for each in decided if ASSIGNMENT.routed(each.transaction.account_id)[0] == 2]
    assert trial.run.counts.row("all") == Pair(len(mine), len(decided) - len(mine))
    alerts = {each.transaction.account_id for each in decided if each.outcome is not Outcome.APPROVE}
    dealt = [ASSIGNMENT.routed(account)[0] == 2 for account in alerts]
    assert trial.run.counts.account("alert") == Pair(sum(dealt), len(dealt) - sum(dealt))
    assert sum(trial.run.counts.scores()[0]) == len(mine)
    asked = [each for _, each in entries if isinstance(each, Answered) and each.role == "canary"]
    assert trial.run.counts.calls.asked == len(asked)
    end = max(each.decided_at for each in decided)
    began = trial.window.began_us
    assert (end - began) // SECOND_US < 10
    assert trial.window.number == 4
    inside = [each for each in decided if each.decided_at >= began]
    assert trial.window.counts.row("all").both == len(inside)
    assert trial.run.counts.account("missed").both + trial.run.counts.account("caught").both > 0


def test_a_shadows_scores_are_held_against_the_champions_of_the_same_rows():
    shadowed = Assignment(version="shadowed", decides=1, shadows=(3,))
    fold = Fold(shadowed, 0, 1_800_000_000_000_000, LIMITS)
    scored: list[tuple[int, float]] = []
    for sequence, entry in stream(6, shadowed, "", 1_500):
        fold.take(sequence, entry)
        if isinstance(entry, Decision):
            scored.append((sequence, entry.scores[0].value))
    for shift, breached in ((0.0, False), (0.6, True)):
        moved = [min(value + shift, 1.0) for _, value in scored]
        fold.take(10**6, Answered(
            version=3, role="shadow", rows=len(scored), micros=1000, sequences=tuple(n for n, _ in scored),
            values=tuple(moved), journaled_at=fold.now_us,
        ))  # fmt: skip
        found = judge(fold.trials[0].run.counts, LIMITS, 0.5, paired=True, budget=0.5)
        assert any(each.breached and each.rule == "scores" for each in found) is breached
    assert {each.rule for each in found} == {"errors", "latency", "slower", "scores"}


@pytest.mark.parametrize("fault", sorted(EXPECTED))
def test_planted_faults_are_found_by_the_rule_that_is_meant_for_them(fault):
    fold = Fold(ASSIGNMENT, 0, 1_800_000_000_000_000, LIMITS)
    for sequence, entry in stream(7, ASSIGNMENT, fault, 6_000):
        fold.take(sequence, entry)
        if sequence % 50 == 0:
            broken = {each.rule for _, each in fold.trials[0].figures(LIMITS, fold.now_us) if each.breached}
            if broken:
                assert broken <= EXPECTED[fault]
                return
    raise AssertionError(f"{fault} was not found in {fold.decisions} payments; known faults: {FAULTS}")


def test_a_healthy_canary_in_bursts_of_frauds_is_left_alone():
    assert [until_found(seed, "", 200, 2_500, LIMITS) for seed in range(4)] == [None] * 4


def test_the_docs_have_every_rule_and_every_limit_with_its_default():
    text = (Path(__file__).parents[2] / "docs" / "releases.md").read_text(encoding="utf-8")
    table = text.split("| Limit | Default |", 1)[1].split("\n\n")[0]
    told = {name: float(value) for name, value in re.findall(r"\| `([a-z_]+)` \| ([\d.]+) (?=\|)", table)}
    assert told == {name: getattr(LIMITS, name) for name in Limits.__struct_fields__}
    unit = r"(\d[\d,]*) (calls|decisions|accounts)"
    for rule in RULES:
        ((least, _, enough, _),) = re.findall(rf"\| `{rule.name}` \| .* \| {unit} \| (?:{unit}|–) \|", text)
        assert int(least.replace(",", "")) == rule.least
        assert int(enough.replace(",", "") or 0) == rule.enough


def test_limits_come_from_a_file_and_a_wrong_one_is_told(tmp_path):
    file = tmp_path / "limits.json"
    file.write_text('{"alpha": 0.05, "latency_ms": 80}')
    assert (read_limits(file).alpha, read_limits(file).latency_ms, read_limits(None)) == (0.05, 80.0, Limits())
    for wrong in ('{"alpha": 0}', '{"alhpa": 0.1}', "{", '{"slice_ratio": 1}'):
        file.write_text(wrong)
        with pytest.raises(InvalidSetting, match="a JSON object of limits"):
            read_limits(file)
    assert SLICES_MOST == 19
