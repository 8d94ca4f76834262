"""A scorer that is told to stop before it has read the journal to its end neither leads nor leaves a snapshot."""

import ast
import time
from collections import Counter
from pathlib import Path

import pytest

from features.declaration import DECLARATION
from plumbline.assignment import Assignment
from plumbline.decision import Decision
from plumbline.journal import Answered, AssignmentApplied, ControlApplied
from streaming import scorer
from streaming.journaling import begin_term
from streaming.kafka import reader
from streaming.snapshot import sequences
from tests.scorer_thread import Installation

ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(kafka, topic_prefix, tmp_path):
    made = Installation(kafka.bootstrap, topic_prefix, tmp_path)
    made.client.declarations = {2: DECLARATION}
    yield made
    made.close()


def answers_of_shadows(entries):
    return [of for _, each in entries if isinstance(each, Answered) and each.role == "shadow" for of in each.sequences]


@pytest.mark.parametrize(("polls", "shadowed"), [(0, False), (3, False), (4, True)])
def test_it_leaves_no_snapshot_and_the_next_one_decides_nothing_again(site, monkeypatch, polls, shadowed):
    """polls: of the journal before it is told to stop; shadowed: a shadow's answers are owed at that place."""
    first = site.scorer().leading()
    site.pay(200)
    site.answered()
    if shadowed:
        site.publish(Assignment(version="s", decides=1, shadows=(2,)))
        site.answered()
    site.pay(400)
    if shadowed:
        site.read(lambda found: found.until(lambda: len(answers_of_shadows(found.entries)) >= 400, "shadow answers"))
    site.answered()
    first.crash()

    second = site.scorer()
    fold = scorer.fold
    begun, folded = [], []

    def beginning(*given):
        end = begin_term(*given)
        begun.append(end)
        return end

    def told_to_stop(state, entries, timeout_ms, supply=None):
        if not begun:  # the lease comes before anything is folded, as for a lone scorer with a long journal
            time.sleep(0.02)
            return 0
        if len(folded) == polls:
            second.stop.set()
            return 0
        if taken := fold(state, entries, timeout_ms, supply):
            folded.append(taken)
        return taken

    with monkeypatch.context() as patched:
        patched.setattr(scorer, "begin_term", beginning)
        patched.setattr(scorer, "fold", told_to_stop)
        patched.setattr(scorer, "reader", lambda *given: reader(*given, most_records=100))
        assert second.start().ended() is None
    assert len(folded) == polls
    assert [state for state, _ in second.states] == ["standing by", "ended"]
    assert sequences(site.snapshots) == []

    third = site.scorer().leading()
    site.pay(5)
    entries = site.answered()
    third.leave()
    ids = Counter(each.transaction.transaction_id for _, each in entries if isinstance(each, Decision))
    assert ids == Counter(f"t{n}" for n in range(605))
    sourceless = [
        type(each)
        for _, each in entries
        if isinstance(each, AssignmentApplied | ControlApplied) and each.source is None
    ]
    assert sourceless == [AssignmentApplied, ControlApplied]
    answered = Counter(answers_of_shadows(entries))
    assert set(answered.values()) <= {1}


def test_a_state_that_has_caught_up_is_made_only_where_a_fold_ends():
    makers = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if not {"tests", "benchmarks", ".venv"} & set(path.parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "CaughtUp"
    }
    assert makers == {"audit/keeping.py", "streaming/backfill.py", "streaming/prepared.py", "streaming/scorer.py"}
