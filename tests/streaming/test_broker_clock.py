"""A scorer's clock against the broker's: what is known of it, and when it is too wrong to lead."""

import pytest

from plumbline.errors import ClockWrong
from streaming.broker_clock import BrokerClock
from tests.fakes import NOW, Clock

TOLERANCE = 300


class Machine:
    """Our wall clock and the monotonic one, which only the wall clock's steps tell apart."""

    def __init__(self):
        self.wall, self.seconds = Clock(NOW), 1000.0
        self.clock = BrokerClock(self.wall, lambda: self.seconds, TOLERANCE)

    def passes(self, seconds):
        self.wall.now_us += round(seconds * 10**6)
        self.seconds += seconds


@pytest.fixture
def machine():
    return Machine()


def test_nothing_known_and_a_backlog_say_nothing_of_the_clock(machine):
    machine.clock.require_right()
    machine.clock.read(NOW // 1000 - 86_400_000)
    assert machine.clock.difference_seconds == 0


@pytest.mark.parametrize("seconds", [-299, -60, 0, 60, 299])
def test_a_written_record_says_exactly_how_far_the_clocks_differ(machine, seconds):
    machine.clock.wrote(NOW // 1000 - seconds * 1000)
    assert machine.clock.difference_seconds == pytest.approx(seconds, abs=0.001)
    machine.passes(5000)
    assert machine.clock.difference_seconds == pytest.approx(seconds, abs=0.001)
    machine.clock.require_right()


@pytest.mark.parametrize(("seconds", "word"), [(-300, "300 s behind"), (172_800, "172800 s ahead of")])
def test_from_the_tolerance_on_it_does_not_lead_until_the_clock_is_right_again(machine, seconds, word):
    machine.clock.wrote(NOW // 1000)
    machine.wall.now_us += seconds * 10**6
    with pytest.raises(ClockWrong, match=rf"clock is {word} the broker's.*does not lead"):
        machine.clock.require_right()
    machine.passes(60)
    with pytest.raises(ClockWrong):
        machine.clock.require_right()
    machine.wall.now_us -= seconds * 10**6
    machine.clock.require_right()


def test_a_record_of_our_future_says_that_the_clock_is_behind_before_anything_is_written(machine):
    machine.clock.read(NOW // 1000 + 2 * 86_400_000)
    with pytest.raises(ClockWrong, match="172800 s behind"):
        machine.clock.require_right()
    machine.wall.now_us += 2 * 86_400 * 10**6
    machine.clock.require_right()
