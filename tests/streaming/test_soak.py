"""The short form of `make soak`: processes killed, stopped and more while traffic flows, then everything counted."""

from random import SystemRandom

import pytest

from benchmarks.acts import SPECIAL
from benchmarks.soak import PROMISES, Plan, soak, write
from streaming.broker.java import find_java

KILLS = 10
TRANSACTIONS = 8_000
PAUSE_SECONDS = 11.0
"""Longer than the lease (3 s), a journal transaction (10 s), and the wait of a new client for the broker (10 s)."""


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_and_stopped_at_random_nothing_is_lost_doubled_out_of_order_or_different(tmp_path):
    if find_java() is None:
        pytest.skip("no Java 17 or newer, which Apache Kafka needs")
    seed = SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    short = Plan(
        seed, KILLS, TRANSACTIONS, pauses=4, pause_seconds=PAUSE_SECONDS, rate=200.0, calm_share=0.25,
        specials=len(SPECIAL),
    )  # fmt: skip
    report = soak(short, tmp_path / "data")
    print(write(report, tmp_path / "report").read_text())
    assert {name: report.figures[name] for name in PROMISES} == dict.fromkeys(PROMISES, 0), report.told
    assert report.figures["kills"] == KILLS
    assert report.figures["compared"] == report.figures["decisions"] >= TRANSACTIONS
    assert {each.process for each in report.history if each.what == "special"} == set(SPECIAL)
    assert report.figures["operators"] == 4
