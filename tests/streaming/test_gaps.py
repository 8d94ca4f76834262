"""Messages that vanish before they were decided are never passed over in silence, whatever made them vanish."""

import pytest
from kafka import TopicPartition

from audit.counting import count_once
from plumbline.decision import Decision
from plumbline.errors import InvalidSetting, StateDiverged
from plumbline.journal import Opened, SourcesOpened
from plumbline.names import Topic
from streaming.kafka import administrator, partitions, reader, topic_ids
from streaming.known import Known
from streaming.opening import Found, accepted_gaps, openings
from streaming.state import State
from streaming.topics import ensure_topics
from tests.scorer_process import Stream
from tests.scorer_thread import Installation, now_us

PLACE = TopicPartition("transactions", 0)
KNOWN = {("transactions", 0): 50}
IDS = {"transactions": "first"}


@pytest.fixture
def site(kafka, topic_prefix, tmp_path):
    made = Installation(kafka.bootstrap, topic_prefix, tmp_path, partitions=1)
    yield made
    made.close()


def transactions(site):
    return TopicPartition(site.topic(Topic.TRANSACTIONS), 0)


def delete_until(site, offset):
    with administrator(site.bootstrap) as admin:
        admin.delete_records({transactions(site): offset})


def create_again(site):
    """Delete the transactions topic, and create it under its name once it is gone."""
    topic = site.topic(Topic.TRANSACTIONS)
    before = id_of(site)
    with administrator(site.bootstrap) as admin:
        admin.delete_topics([topic])
    site.stream.close()
    while True:
        ensure_topics(site.bootstrap, site.prefix, 1)
        if id_of(site) not in ("", before):
            break
    site.stream = Stream(site.bootstrap, site.prefix)


def id_of(site):
    topic = site.topic(Topic.TRANSACTIONS)
    consumer = reader(site.bootstrap, [])
    try:
        consumer.partitions_for_topic(topic)
        return topic_ids(consumer, [topic])[topic]
    finally:
        consumer.close()


def decided(entries):
    return [each.transaction.transaction_id for _, each in entries if isinstance(each, Decision)]


def balance(site):
    return count_once(site.bootstrap, site.prefix, None, lambda: now_us() // 1000)


def refused(site):
    error = site.scorer().start().ended()
    assert isinstance(error, StateDiverged), error
    return str(error)


def accepting(site, offset):
    return site.scorer(accepted_gaps={transactions(site): offset}).leading()


@pytest.mark.parametrize("known", [True, False], ids=["a partition that was taken", "one that never was"])
def test_messages_that_retention_removed_are_a_gap_that_an_operator_must_accept(site, known):
    before = 10 if known else 0
    if known:
        first = site.scorer().leading()
        site.pay(10)
        site.answered()
        first.leave()
    site.pay(100)
    delete_until(site, 60)
    said = refused(site)
    assert f"offsets {before} to 59 were deleted before they were taken" in said
    assert f"--accept-gap {transactions(site).topic}/0@60" in said
    delete_until(site, 65)
    said = str(site.scorer(accepted_gaps={transactions(site): 60}).start().ended())
    assert f"offsets {before} to 64" in said, "more is gone than was accepted"
    again = accepting(site, 65)
    site.stream.sent[transactions(site)] -= 65 - before
    entries = site.answered()
    again.leave()
    assert decided(entries) == [f"t{n}" for n in [*range(before), *range(65, 100 + before)]]
    (gap,) = [
        each
        for _, entry in entries
        if isinstance(entry, SourcesOpened)
        for each in entry.opened
        if each.lost_from is not None
    ]
    assert (gap.first, gap.lost_from, gap.instead_of) == (65, before, "")
    counted = balance(site)
    assert (counted.imbalance, counted.gone) == (0, 65 - before)
    site.scorer().leading().leave()  # and it stays accepted


@pytest.mark.parametrize("more", [20, 80], ids=["with fewer messages", "with more"])
def test_a_topic_that_was_created_again_is_noticed_by_its_id(site, more):
    first = site.scorer().leading()
    site.pay(50)
    site.answered()
    first.leave()
    create_again(site)
    site.pay(more)
    said = refused(site)
    assert "was deleted and created again" in said
    assert f"--accept-gap {transactions(site).topic}/0@0" in said
    again = accepting(site, 0)
    entries = site.read(lambda found: found.until(lambda: len(found.decisions()) >= 50 + more, "all decided"))
    again.leave()
    assert decided(entries) == [f"t{n}" for n in range(50 + more)]
    state = State(Known(1000))
    state.fold(entries)
    assert state.positions[transactions(site)] == more
    counted = balance(site)
    assert (counted.imbalance, counted.acknowledged) == (0, 50 + more)


def test_a_topic_that_is_created_again_under_a_leader_is_noticed_too(site):
    leader = site.scorer().leading()
    site.pay(50)
    site.answered()
    create_again(site)
    site.pay(80)
    error = leader.ended()
    assert isinstance(error, StateDiverged)
    assert "was deleted and created again" in str(error)
    assert len(decided(site.entries())) == 50


def test_new_partitions_are_taken_from_their_beginning(site):
    first = site.scorer().leading()
    site.pay(20)
    site.answered()
    first.leave()
    with administrator(site.bootstrap) as admin:
        admin.create_partitions({transactions(site).topic: 2})
    site.stream.close()
    site.stream = Stream(site.bootstrap, site.prefix)
    site.stream.sent[transactions(site)] = 20
    while True:
        consumer = reader(site.bootstrap, [])
        try:
            if len(partitions(consumer, transactions(site).topic)) == 2:
                break
        finally:
            consumer.close()
    second = site.scorer().leading()
    site.pay(40)
    entries = site.answered()
    second.leave()
    assert len(decided(entries)) == 60
    assert entries[20 + 4][1].opened[0] == Opened(
        topic=transactions(site).topic, topic_id=id_of(site), partition=1, first=0
    )


@pytest.mark.parametrize(
    ("found", "accepted", "opened"),
    [
        (Found("first", 0, 70), None, []),
        (Found("first", 50, 50), None, []),
        (Found("", 0, 70), None, []),
        (
            Found("first", 60, 70),
            60,
            [Opened(topic="transactions", topic_id="first", partition=0, first=60, lost_from=50)],
        ),
        (
            Found("second", 5, 70),
            9,
            [Opened(topic="transactions", topic_id="second", partition=0, first=5, lost_from=50, instead_of="first")],
        ),
    ],
)
def test_what_is_opened_of_a_partition_that_was_taken_before(found, accepted, opened):
    given = {} if accepted is None else {PLACE: accepted}
    assert openings(KNOWN, IDS, {PLACE: found}, given) == tuple(opened)


@pytest.mark.parametrize(
    ("found", "accepted", "said"),
    [
        (Found("first", 60, 70), {}, "offsets 50 to 59 were deleted"),
        (Found("first", 60, 70), {PLACE: 59}, "offsets 50 to 59 were deleted"),
        (Found("first", 60, 70), {TopicPartition("transactions", 1): 60}, "offsets 50 to 59 were deleted"),
        (Found("second", 0, 70), {}, "its id was first and is second"),
        (Found("first", 0, 49), {PLACE: 50}, "ends before offset 49, but the journal took it up to 49"),
    ],
)
def test_what_is_refused_of_a_partition_that_was_taken_before(found, accepted, said):
    with pytest.raises(StateDiverged, match=said):
        openings(KNOWN, IDS, {PLACE: found}, accepted)


def test_a_journal_of_an_older_release_learns_the_ids_of_its_topics():
    (opened,) = openings(KNOWN, {}, {PLACE: Found("first", 0, 70)}, {})
    assert (opened.first, opened.topic_id, opened.lost_from) == (50, "first", None)


@pytest.mark.parametrize("text", ["transactions/3", "transactions@3", "transactions/a@3", "/0@3", "transactions/0@-1"])
def test_another_text_than_a_place_and_an_offset_is_no_gap(text):
    with pytest.raises(InvalidSetting, match="such as transactions/3@1200"):
        accepted_gaps([text])
