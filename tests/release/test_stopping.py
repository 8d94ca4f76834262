"""The stop rule of experiments: against chance over seeds, harm before victory, each verdict by hand-made counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from release.stopping import ArmCounts, judge_experiment

CHAMPION = ArmCounts(1, 800, caught=400, missed=200, false_alerts=400)
COUNTS = st.integers(0, 2_000)
ARMS = st.builds(ArmCounts, st.just(2), st.integers(1, 500), COUNTS, COUNTS, COUNTS)


def test_arms_like_the_champion_go_on():
    found = judge_experiment(CHAMPION, [ArmCounts(2, 200, caught=100, missed=50, false_alerts=100)])
    assert (found.verdict, found.version, found.because) == ("continue", None, "")
    assert found.evidence < found.needed


@pytest.mark.parametrize(("arm", "verdict", "version", "because"), [
    (ArmCounts(2, 200, caught=200, missed=50, false_alerts=100), "winner", 2, "more caught"),
    (ArmCounts(2, 200, caught=20, missed=50, false_alerts=100), "winner", 1, "more caught than every arm"),
    (ArmCounts(2, 200, caught=200, missed=150, false_alerts=100), "harm", 2, "more missed"),
    (ArmCounts(2, 200, caught=200, missed=50, false_alerts=300), "harm", 2, "more false alerts"),
])  # fmt: skip
def test_harm_comes_before_a_winner(arm, verdict, version, because):
    found = judge_experiment(CHAMPION, [arm])
    assert (found.verdict, found.version, found.because) == (verdict, version, because)
    assert found.evidence >= found.needed


def test_the_champion_wins_only_against_every_arm():
    worse, equal = (ArmCounts(n, 100, caught=caught, missed=25, false_alerts=50) for n, caught in ((2, 5), (3, 50)))
    champion = ArmCounts(1, 800, caught=400, missed=200, false_alerts=400)
    assert judge_experiment(champion, [worse, equal]).verdict == "continue"
    assert judge_experiment(champion, [worse]).version == 1


@given(ARMS, st.integers(1, 500))
def test_more_harm_is_never_less_evidence_of_it(arm, more):
    harmed = ArmCounts(2, arm.per_mille, arm.caught, arm.missed + more, arm.false_alerts)
    before, after = (judge_experiment(CHAMPION, [each]) for each in (arm, harmed))
    assert before.verdict != "harm" or after.verdict == "harm"


def test_an_experiment_without_accounts_is_none():
    with pytest.raises(ValueError, match="each with accounts"):
        judge_experiment(CHAMPION, [])
    with pytest.raises(ValueError, match="each with accounts"):
        judge_experiment(CHAMPION, [ArmCounts(2, 0)])


def test_equal_arms_asked_after_every_account_are_seldom_stopped():
    draw, alpha, stopped, experiments = np.random.default_rng(4), 0.3, 0, 60
    for _ in range(experiments):
        counts = {name: [0, 0] for name in ("caught", "missed", "false_alerts")}
        for name, mine in zip(draw.choice(list(counts), 200), draw.random(200) < 0.2, strict=True):
            counts[name][int(mine)] += 1
            champion, arm = (
                ArmCounts(version, share, *(counts[each][place] for each in counts))
                for place, (version, share) in enumerate(((1, 800), (2, 200)))
            )
            if judge_experiment(champion, [arm], alpha).verdict != "continue":
                stopped += 1
                break
    assert stopped <= experiments * alpha + 3 * np.sqrt(experiments * alpha * (1 - alpha))
