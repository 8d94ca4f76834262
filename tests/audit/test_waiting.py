"""How long the oldest message has waited, by what was seen, whatever the clock was set to."""

import pytest
from kafka import TopicPartition

from audit.waiting import Ages
from tests.fakes import Clock

HOUR = 3600.0
PLACE = TopicPartition("transactions", 0)


def looks(clock: Clock, ages: Ages, offset: int, end: int, appended_at_ms: int | None, seconds: int) -> int | None:
    """One look a second for so many seconds; the last answer."""
    waited = None
    for _ in range(seconds):
        clock.passes(1)
        waited = ages.oldest_ms(PLACE, offset, end, appended_at_ms, clock() // 1000)
    return waited


@pytest.mark.parametrize("step", [0.0, -HOUR, HOUR], ids=["no step", "an hour back", "an hour forward"])
@pytest.mark.parametrize("when", ["before it comes", "while it waits"])
def test_a_message_that_is_stuck_waits_as_long_as_it_was_seen_to(step: float, when: str) -> None:
    clock, broker = Clock(), Clock()
    ages = Ages(clock.monotonic)
    assert looks(clock, ages, 5, 5, None, 3) is None
    broker.passes(3)
    if when == "before it comes":
        clock.steps(step)
    appended_at_ms = broker() // 1000
    assert looks(clock, ages, 5, 6, appended_at_ms, 10) == pytest.approx(10_000, abs=1_001)
    clock.steps(step)
    assert looks(clock, ages, 5, 9, appended_at_ms, 50) == pytest.approx(60_000, abs=1_001)
    assert looks(clock, ages, 9, 9, None, 1) is None


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_a_stream_that_flows_waits_for_a_moment(step: float) -> None:
    clock, broker = Clock(), Clock()
    ages = Ages(clock.monotonic)
    for second in range(20):
        clock.passes(1)
        broker.passes(1)
        if second == 10:
            clock.steps(step)
        waited = ages.oldest_ms(PLACE, 10 * second, 10 * second + 10, broker() // 1000, clock() // 1000)
        if second:
            assert 0 <= waited <= 1_001


def test_at_first_sight_the_wall_clock_is_all_there_is() -> None:
    clock = Clock()
    assert Ages(clock.monotonic).oldest_ms(PLACE, 5, 9, clock() // 1000 - 70_000, clock() // 1000) == 70_000
