"""A scorer with a wrong clock decides nothing on a real broker, and goes on by itself once the clock is right."""

import threading
import time

import pytest

from observe.metrics import Metrics
from plumbline.decision import Decision
from plumbline.names import Topic
from streaming.leading import Scoring
from streaming.scorer import run
from streaming.topics import ensure_topics
from tests.fakes import fake_model, payment, raw
from tests.scorer_process import Journal, Stream
from tests.serving_process import until

pytestmark = pytest.mark.slow

DAYS_US = 2 * 86_400 * 10**6


class Shifted:
    """This machine's clock, moved by what a test says."""

    def __init__(self, by_us):
        self.by_us = by_us

    def __call__(self):
        return time.time_ns() // 1000 + self.by_us


@pytest.mark.parametrize("by_us", [-DAYS_US, DAYS_US])
def test_a_scorer_whose_clock_is_two_days_off_decides_nothing_until_it_is_right(kafka, topic_prefix, tmp_path, by_us):
    ensure_topics(kafka.bootstrap, topic_prefix, 1)
    clock, metrics, stop = Shifted(by_us), Metrics(), threading.Event()
    scoring = Scoring(kafka.bootstrap, topic_prefix, tmp_path / "snapshots", 512, 200_000, 1_000_000)
    stream, found = Stream(kafka.bootstrap, topic_prefix), Journal(kafka.bootstrap, topic_prefix)
    now_us = time.time_ns() // 1000
    sent = [raw(payment(n, occurred_at=now_us + n)) for n in range(5)]
    stream.send(Topic.TRANSACTIONS, [(b"a", each) for each in sent])
    scorer = threading.Thread(target=run, args=(scoring, fake_model(), metrics, clock, stop))
    scorer.start()
    try:
        gauge = metrics.gauge("plumbline_clock_difference_seconds")
        until(lambda: abs(gauge._value.get() - by_us / 10**6) < 60)
        found.until_more(0)
        assert not any(isinstance(each, Decision) for _, each in found.entries)
        clock.by_us = 0
        found.until_answered(stream)
        assert [type(each) for _, each in found.entries if each.source is not None] == [Decision] * 5
        until(lambda: abs(gauge._value.get()) < 5)
    finally:
        stop.set()
        scorer.join(60)
        stream.close()
        found.close()
    assert not scorer.is_alive()
