"""History that is prepared beside the stream: from the journal, going on where it ended, and refused when too old."""

import contextlib

import numpy as np
import pytest
from kafka import TopicPartition
from msgspec.structs import replace

from features.declaration import DECLARATION
from features.grammar import Measure
from features.sweep import History
from plumbline.errors import HistoryMissing
from plumbline.journal import LabelApplied
from plumbline.policy import DEFAULT_POLICY
from streaming.arrivals import arrivals
from streaming.batch import process
from streaming.known import Known
from streaming.prepared import folder_of, history_until, prepare
from streaming.snapshot import sequences
from streaming.state import State
from tests.fakes import NOW, Numbered, fake_model, payment, raw, told
from tests.journal_writer import JournalWriter, read_topic

WIDER = replace(DECLARATION, history=(*DECLARATION.history, Measure("account", "count", "14d")))


def decided(count):
    """Journal entries of so many payments with labels between them."""
    state = State(Known(1000), policy=DEFAULT_POLICY)
    topics = {name: Numbered(name) for name in ("transactions", "labels")}
    found = []
    for begin in range(0, count, 20):
        found += process(
            state, fake_model(),
            label=[topics["labels"].message(raw(told(begin, max(0, begin - 7))))],
            transaction=[topics["transactions"].message(raw(payment(n))) for n in range(begin, begin + 20)],
            now_us=NOW,
        ).entries  # fmt: skip
    return found


@pytest.fixture
def site(kafka, topic_prefix, tmp_path):
    """Writes entries into a journal; prepares and asks for WIDER's history of it."""

    class Site:
        snapshots = tmp_path / "snapshots"
        partition = TopicPartition(f"{topic_prefix}decisions", 0)

        def __init__(self, writer):
            self.write = writer.write

        def prepare(self):
            return prepare(
                kafka.bootstrap, self.partition, self.snapshots, WIDER,
                archive=None, until_us=None, remembered=1000, tell=lambda rows: None,
            )  # fmt: skip

        def offset(self, number):
            """Where the entry of that number lies: the marks of transactions take offsets too."""
            return read_topic(kafka.bootstrap, self.partition.topic)[number].offset

        def until(self, sequence, most_entries=None, begin=None):
            return history_until(
                kafka.bootstrap, self.partition, self.snapshots, WIDER,
                sequence=sequence, remembered=1000, most_entries=most_entries, begin=begin,
            )  # fmt: skip

    with contextlib.closing(JournalWriter(kafka.bootstrap, topic_prefix)) as writer:
        yield Site(writer)


def rows_of(entries):
    return [each for each in entries if not (isinstance(each, LabelApplied) and each.effect != "counted")]


def test_what_was_prepared_goes_on_to_any_later_entry(site):
    entries = decided(200)
    site.write(entries[:90])
    first = site.prepare()
    site.write(entries[90:150])
    second = site.prepare()
    assert (first.sequence, second.sequence) == (site.offset(89), site.offset(149))
    site.write(entries[150:])
    swept = History(WIDER)
    swept.advance(arrivals(rows_of(entries[:180])))
    found = site.until(site.offset(180))
    later = arrivals(rows_of(entries[180:]))
    assert np.array_equal(found.advance(later), swept.advance(later))
    assert found.entities.same(swept.entities)


def test_one_that_is_newer_than_the_entry_is_passed_over(site):
    entries = decided(100)
    site.write(entries[:40])
    site.prepare()
    site.write(entries[40:])
    site.prepare()
    swept = History(WIDER)
    swept.advance(arrivals(rows_of(entries[:60])))
    later = arrivals(rows_of(entries[60:]))
    assert np.array_equal(site.until(site.offset(60)).advance(later), swept.advance(later))


def test_none_prepared_or_too_long_ago_says_what_to_do(site):
    with pytest.raises(HistoryMissing, match=r"no history is prepared .* run `plumbline prepare`"):
        site.until(10)
    entries = decided(100)
    site.write(entries[:20])
    site.prepare()
    site.write(entries[20:])
    with pytest.raises(HistoryMissing, match="journal entries behind, and the stream may wait for 50 at most"):
        site.until(site.offset(80), most_entries=50)
    assert site.until(site.offset(80), most_entries=65) is not None


def test_a_damaged_one_is_prepared_again_and_a_leader_does_not_build_upon_it(site):
    site.write(decided(40))
    whole = site.prepare()
    folder = folder_of(site.snapshots, WIDER)
    (sequence,) = sequences(folder)
    (folder / str(sequence) / "state.npz").write_bytes(b"gone")
    with pytest.raises(HistoryMissing, match="is damaged"):
        site.until(10**6)
    again = site.prepare()
    assert again.sequence == whole.sequence
    assert again.entities.same(whole.entities)


def test_where_none_is_prepared_a_fold_without_a_stream_makes_it_from_the_beginning(site):
    """Also when the newest two that were prepared are both behind the entry."""
    entries = decided(100)
    site.write(entries[:60])
    site.prepare()
    site.write(entries[60:])
    site.prepare()
    begun = State(Known(1000), {WIDER.fingerprint: History(WIDER)}, only=WIDER.fingerprint)
    swept = History(WIDER)
    swept.advance(arrivals(rows_of(entries[:30])))
    later = arrivals(rows_of(entries[30:]))
    found = site.until(site.offset(30), begin=lambda _declaration: begun)
    assert np.array_equal(found.advance(later), swept.advance(later))
