"""A part of `python -m benchmarks.steps`: acts at the moments of every long-running process, within a minute or so."""

import pytest

from benchmarks.steps import FIGURES, run

pytestmark = pytest.mark.slow

PARTS = {
    "scorer cold": 32,
    "scorer warm": 64,
    "scorer first": 32,
    "ledger": 16,
    "api": 4,
    "guard": 32,
    "release": 64,
    "nightly run": 32,
}
"""Of each process one case of so many, the same ones every time."""


@pytest.mark.parametrize("process", PARTS)
def test_whatever_happens_at_any_moment_nothing_is_decided_twice_lost_or_different(process):
    found = run(process, part=0, parts=PARTS[process])
    assert {name: found.faults[name] for name in FIGURES} == dict.fromkeys(FIGURES, 0), found.told
    assert found.tried.total() > 4


def test_a_scorer_that_is_told_to_stop_at_any_moment_of_its_start_decides_nothing_again():
    """The moments from the look for a snapshot to the first batch, each: a stop while it caught up once decided all
    messages a second time.
    """
    found = run("scorer cold", every=3, acts=["stop"], calls=["consumer.", "producer."])
    assert {name: found.faults[name] for name in FIGURES} == dict.fromkeys(FIGURES, 0), found.told
    assert found.tried.total() >= 15
