"""The journal's time, by which a trial's windows and looks go, when the scorer's clock was set meanwhile."""

import pytest

from plumbline.assignment import Arm, Assignment
from plumbline.journal import Answered
from plumbline.transaction import SECOND_US
from release.judging import Judging
from release.limits import Limits

BEGAN_US = 1_800_000_000_000_000
HOUR_US = 3_600 * SECOND_US
ASSIGNMENT = Assignment(version="trial", decides=1, arms=(Arm(2, 500),))
LIMITS = Limits(window_seconds=60)


def answered(at_us: int, failure: str = "") -> Answered:
    return Answered(version=2, role="canary", rows=1, failure=failure, micros=1000, journaled_at=at_us)


def judged(steps: dict[int, int], seconds: int = 300) -> tuple[Judging, int]:
    """A trial of one call a second, and how many looks were made; steps: of the scorer's clock, by second."""
    judging = Judging(ASSIGNMENT, 0, BEGAN_US, LIMITS)
    stepped, looks = 0, 0
    for second in range(1, seconds + 1):
        stepped += steps.get(second, 0)
        before = judging._looked
        judging.take(second, answered(BEGAN_US + second * SECOND_US + stepped))
        looks += judging._looked != before
    return judging, looks


def test_without_a_step_time_is_the_journals() -> None:
    judging, looks = judged({})
    assert judging.fold.now_us == BEGAN_US + 300 * SECOND_US
    assert judging.fold.trials[0].window.number == 6
    assert looks == 300


@pytest.mark.parametrize("at", [1, 100, 299])
def test_an_hour_back_stops_no_look_and_no_window(at: int) -> None:
    """The trial went without a look until the clock had caught up with itself."""
    judging, looks = judged({at: -HOUR_US})
    assert looks >= 299
    assert abs(judging.fold.now_us - BEGAN_US - 300 * SECOND_US) <= SECOND_US
    assert judging.fold.trials[0].window.number in {5, 6}


def test_an_hour_forward_is_an_hour_without_entries_and_back_again_is_nothing() -> None:
    judging, looks = judged({100: HOUR_US, 200: -HOUR_US})
    assert looks >= 100, "a look at least every 1/400 of the time that the trial has lasted, as without a step"
    assert abs(judging.fold.now_us - BEGAN_US - 300 * SECOND_US - HOUR_US) <= SECOND_US
    assert judging.fold.trials[0].window.counts.calls.asked <= 61


def test_small_differences_between_two_scorers_clocks_move_nothing() -> None:
    judging, _ = judged({second: (-1) ** second * 2 * SECOND_US for second in range(10, 300)})
    assert abs(judging.fold.now_us - BEGAN_US - 300 * SECOND_US) <= 3 * SECOND_US


def test_faults_after_an_hour_back_are_found() -> None:
    judging, _ = judged({100: -HOUR_US}, 200)
    found = []
    for second in range(201, 260):
        found += judging.take(second, answered(BEGAN_US + second * SECOND_US - HOUR_US, "error"))
    assert [each.trial.version for each in found] == [2]
