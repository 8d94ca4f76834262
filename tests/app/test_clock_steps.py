"""The console's and the API's clocks: an hour back or forward stops nothing, hides nothing, and shuts nobody out."""

import threading
import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from app.api.rates import Rates
from app.ledger import Ledger, run
from app.liveness import Signs
from app.rate_limit import MAX_KEYS, MovingWindow
from observe.metrics import Metrics
from plumbline.errors import RateExceeded
from store.engine import transaction
from store.labels import record_verdict
from store.tables import Alert, ContinuousAudit, Verdict
from store.watch import begin_continuous_audit
from tests.fakes import Clock
from tests.journal_writer import JournalWriter, entries

HOUR = 3600.0
STEPS = pytest.mark.parametrize("step", [-HOUR, HOUR], ids=["an hour back", "an hour forward"])


@STEPS
def test_a_window_counts_the_time_that_passed(step: float) -> None:
    clock = Clock()
    rates = Rates(2, clock.monotonic)
    rates.take("key")
    clock.steps(step)
    rates.take("key")
    with pytest.raises(RateExceeded):
        rates.take("key")
    rates.take("another")
    clock.steps(-step)
    clock.passes(1.0)
    rates.take("key")


def test_a_window_forgets_keys_without_events_and_holds_so_many_at_most() -> None:
    clock = Clock()
    window = MovingWindow(3, 10.0, clock.monotonic)
    for n in range(100):
        window.count(f"k{n}")
        clock.passes(1.0)
    assert len(window._times) == 10
    for n in range(MAX_KEYS + 5):
        window.count(f"m{n}")
    assert len(window._times) == MAX_KEYS
    assert not window.full("m1")


@STEPS
def test_failed_log_ins_are_counted_by_the_time_that_passed(console, log_in, monkeypatch, step: float) -> None:
    """The library that counted them before took the wall clock: an hour back shut everybody out for an hour."""
    client = console.client()
    wall, passed = time.time, time.monotonic
    for _ in range(10):
        assert log_in(client, "analyst@bank.example", "wrong password here").status_code == 200
    monkeypatch.setattr(time, "time", lambda: wall() + step)
    fresh = console.client()
    assert log_in(fresh, "analyst@bank.example").status_code == 429
    monkeypatch.setattr(time, "monotonic", lambda: passed() + 901)
    assert log_in(fresh, "analyst@bank.example").status_code == 302


SIGNS: dict[str, tuple[list[tuple[float, float, bool]], tuple[float, float]]] = {
    # What happens: (seconds that pass, step of our clock, whether the process gives a sign); then the age, at most and
    # at least, seconds.
    "it goes on": ([(1, 0, True)] * 60, (0, 1)),
    "it dies": ([(1, 0, True)] * 5 + [(1, 0, False)] * 60, (60, 61)),
    "our clock goes back and it is dead": ([(1, 0, True)] * 5 + [(1, -HOUR, False)] + [(1, 0, False)] * 59, (59, 61)),
    "our clock goes back and it goes on": ([(1, -HOUR, True)] + [(1, 0, True)] * 5, (0, 1)),
    "our clock goes forward and it goes on": ([(1, 0, True), (1, HOUR, False)] + [(1, 0, True)] * 5, (0, 1)),
    "our clock goes forward and it is dead": ([(1, 0, True), (1, HOUR, False)] + [(1, 0, False)] * 60, (60, 62)),
}


@pytest.mark.parametrize("happens", SIGNS)
@pytest.mark.parametrize("same_clock", [True, False], ids=["on this machine", "on another machine"])
def test_a_process_is_as_silent_as_this_one_saw_it_to_be(happens: str, same_clock: bool) -> None:
    ours, theirs = Clock(), Clock()
    signs = Signs(ours.monotonic)
    told_us = theirs()
    signs.age_seconds("watch", told_us, ours())
    moments, (least, most) = SIGNS[happens]
    age = -1.0
    for seconds, step, tells in moments:
        ours.passes(seconds)
        theirs.passes(seconds)
        ours.steps(step)
        if same_clock:
            theirs.steps(step)
        told_us = theirs() if tells else told_us
        age = signs.age_seconds("watch", told_us, ours())
    assert least - 0.001 <= age <= most + 0.001


def test_at_first_sight_the_wall_clock_is_all_there_is() -> None:
    clock = Clock()
    assert Signs(clock.monotonic).age_seconds("watch", clock() - 300_000_000, clock()) == 300


@STEPS
def test_a_verdict_leaves_after_the_clock_was_set(engine: sa.Engine, kafka, topic_prefix: str, step: float) -> None:
    """An hour back left verdicts unpublished for that hour."""
    clock = Clock(time.time_ns() // 1000)
    writer = JournalWriter(kafka.bootstrap, topic_prefix)
    writer.write(list(entries(200, 3)))
    ledger = Ledger(engine, kafka.bootstrap, topic_prefix, threading.Event(), Metrics(), clock)
    thread = threading.Thread(target=run, args=[ledger])
    thread.start()
    try:
        opened = until(lambda: first_open(engine))
        clock.steps(step)
        with transaction(engine) as session:
            record_verdict(session, opened, verdict="fraud", note="", by="ada", now_us=clock(), label_id="verdict-1")
        until(lambda: published(engine))
    finally:
        ledger.stop.set()
        thread.join()
        writer.close()


def first_open(engine: sa.Engine) -> int | None:
    with Session(engine) as session:
        return session.scalar(sa.select(Alert.id).where(Alert.status == "open").limit(1))


def published(engine: sa.Engine) -> int | None:
    with Session(engine) as session:
        return session.scalar(sa.select(Verdict.published_at).where(Verdict.label_id == "verdict-1"))


def until(found: Callable[[], int | None], seconds: float = 60.0) -> int:
    end = time.monotonic() + seconds
    while (value := found()) is None:
        assert time.monotonic() < end
        threading.Event().wait(0.05)
    return value


def test_a_dead_watch_is_told_although_the_clock_went_back(console) -> None:
    """The sign of life lies in the future of a clock that was set back; the page waited for it to come to pass."""
    signs = Clock()
    console.app.extensions["plumbline.signs"] = Signs(signs.monotonic)
    with transaction(console.engine) as session:
        begin_continuous_audit(session, 10, time.time_ns() // 1000 + int(HOUR * 1e6))
    client = console.client("analyst")
    assert 'data-warning="watch_silent"' not in client.get("/").text
    signs.passes(130)
    assert 'data-warning="watch_silent"' in client.get("/").text
    with transaction(console.engine) as session:
        session.get(ContinuousAudit, 1).updated_at += 1
    signs.passes(1)
    assert 'data-warning="watch_silent"' not in client.get("/").text


@pytest.mark.parametrize(("step", "stays"), [(-HOUR, False), (HOUR, True)], ids=["an hour back", "an hour forward"])
def test_after_a_step_people_are_logged_in_or_can_log_in(console, log_in, monkeypatch, step, stays) -> None:
    """A cookie that was signed in the future is refused; the next one is good."""
    client = console.client("analyst")
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + step)
    assert (client.get("/alerts").status_code == 200) is stays
    if not stays:
        assert log_in(client, "analyst@bank.example").status_code == 302
        assert client.get("/alerts").status_code == 200
