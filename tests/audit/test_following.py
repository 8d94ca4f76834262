"""The continuous audit's fold and a replay's, while declarations change: the histories that a scorer journaled."""

import random

import pytest

from audit.following import Following
from audit.keeping import history_under
from audit.past import Journal, Sources, declarations_journaled, find, past_of, shadows_of
from features.declaration import DECLARATION
from features.sweep import History
from plumbline.decision import Decision
from plumbline.journal import Answered, LabelApplied
from streaming.arrivals import arrivals
from streaming.known import Known
from streaming.state import State
from tests.journal_writer import JournalWriter
from tests.streaming.test_declarations import NEW, OLD, WIDER, evolved


def supply_from(entries):
    """History under a declaration, of the entries before a sequence number, in the plainest way."""

    def supply(declaration, sequence):
        history = History(declaration)
        counted = [
            each
            for each in entries[:sequence]
            if isinstance(each, Decision) or (isinstance(each, LabelApplied) and each.effect == "counted")
        ]
        history.advance(arrivals(counted))
        return history

    return supply


def checked(runs):
    """How many histories were the same as journaled, by declaration."""
    same = {OLD: 0, NEW: 0}
    for run in runs:
        for n, (_, decision) in enumerate(run.decisions):
            for name, history in run.histories.items():
                assert decision.history_of(name) == tuple(history[n].tolist())
                assert len(run.names[name]) == history.shape[1]
                same[name] += 1
    return same


@pytest.mark.parametrize("seed", range(3))
def test_declarations_that_come_and_go_are_followed_wherever_the_chunks_end(seed):
    entries = evolved().journal
    rng = random.Random(seed)
    following = Following(State(Known(1024)), supply_from(entries))
    runs, begin = [], 0
    while begin < len(entries):
        end = begin + rng.randint(1, 40)
        runs += following.take(list(enumerate(entries))[begin:end])
        begin = end
    decisions = [each for each in entries if isinstance(each, Decision)]
    wanted = {name: sum(each.history_of(name) is not None for each in decisions) for name in (OLD, NEW)}
    assert checked(runs) == wanted
    assert wanted[NEW] > 30
    assert sum(len(run.decisions) for run in runs) == len(decisions)


def test_a_replay_finds_every_declaration_of_then_and_its_history(kafka, topic_prefix, tmp_path):
    entries = evolved().journal
    writer = JournalWriter(kafka.bootstrap, topic_prefix)
    writer.write(entries)
    writer.close()
    sources = Sources(Journal(kafka.bootstrap, topic_prefix), None, None, tmp_path)
    decisions = [each for each in entries if isinstance(each, Decision)]
    for wanted in (decisions[0], decisions[75], decisions[-1]):
        sequence, found = find(sources.journal, wanted.transaction.transaction_id)
        assert found == wanted
        known = {OLD: DECLARATION} | declarations_journaled(sources.journal, sequence)
        names = [found.fingerprint, *(each.fingerprint for each in found.other_histories)]
        past = past_of(sources, sequence, found, {name: known[name] for name in names})
        assert {name: tuple(each[0].tolist()) for name, each in past.histories.items()} == {
            name: found.history_of(name) for name in names
        }
        assert ("" if past.assignment is None else past.assignment.version) == found.assignment
        shadows = () if past.assignment is None else past.assignment.shadows
        said = shadows_of(sources.journal, sequence, shadows)
        assert said.keys() == set(shadows)
        assert said == {
            each.version: each.values[each.sequences.index(sequence)]
            for each in entries
            if isinstance(each, Answered) and sequence in each.sequences
        }
    assert decisions[75].other_histories
    swept = history_under(sources, WIDER, sources.journal.end())
    plain = supply_from(entries)(WIDER, len(entries))
    assert swept.entities.same(plain.entities)
