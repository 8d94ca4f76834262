"""Conservation as arithmetic: whatever offsets look like, planted losses and doublings are counted exactly."""

from hypothesis import given, settings
from hypothesis import strategies as st

from audit.conservation import Letters, Seen, Stored, Tally, Waiting, equations, imbalance, kinds_of

FATES = ("decision", "conflict", "rejected")
MESSAGE, EMPTY, GONE = "message", "empty", "gone"


ACTIVE = "first", ""


def begun():
    """The counts behind a first start's two entries."""
    tally = Tally()
    tally.take(0, "assignment", None, 0, 0)
    tally.take(1, "control", None, 0, 0, ACTIVE)
    return tally


def stretch(places, first, stop):
    """What a reader finds from `first` to before `stop`."""
    found = places[first:stop]
    return Seen(found.count(MESSAGE), found.count(EMPTY), found.count(GONE))


@st.composite
def topics(draw):
    """Places of one partition, how far the journal came, and what it did wrong: messages lost, messages taken twice."""
    places = [GONE] * draw(st.integers(0, 3)) + draw(st.lists(st.sampled_from([MESSAGE, MESSAGE, EMPTY]), max_size=30))
    reached = draw(st.integers(0, len(places)))
    messages = [at for at in range(reached) if places[at] == MESSAGE]
    lost = draw(st.sets(st.sampled_from(messages))) if messages else set()
    # a message behind the newest one that was taken is on its way and not lost
    taken = [at for at in messages if at not in lost]
    lost = {at for at in lost if taken and at < taken[-1]}
    doubled = draw(st.sets(st.sampled_from(taken))) if taken else set()
    fates = draw(st.lists(st.sampled_from(FATES), min_size=len(taken), max_size=len(taken)))
    return places, list(zip(taken, fates, strict=True)), lost, doubled


@settings(max_examples=300)
@given(st.lists(topics(), min_size=1, max_size=3))
def test_losses_and_doublings_are_counted_and_nothing_else_is(partitions):
    tally, sequence, waiting = begun(), 2, []
    for number, (places, taken, _, doubled) in enumerate(partitions):
        for at, fate in taken:
            for _ in range(1 + (at in doubled)):
                gap = tally.take(sequence, fate, "transactions", number, at, ACTIVE)
                sequence += 1
                if gap is not None:
                    tally.place("transactions", number).passed(stretch(places, gap.first, gap.stop))
        following = tally.place("transactions", number).next_offset
        waiting.append(Waiting("transactions", number, len(places), stretch(places, following, len(places))))
    found = equations(tally, waiting, Letters(letters=kinds_of(tally)["rejected"]), Stored())
    lost = sum(len(each[2]) for each in partitions)
    twice = sum(len(each[3]) for each in partitions)
    assert imbalance(found) == lost + twice
    assert sum(each.difference for each in found if each.name == "acknowledged") == lost
    assert sum(each.difference for each in found if each.name == "once") == twice
    messages = sum(places.count(MESSAGE) for places, *_ in partitions)
    assert sum(each.left for each in found if each.name == "acknowledged") == messages
    assert tally.entries == 2 + sum(len(taken) + len(doubled) for _, taken, _, doubled in partitions)


def test_an_entry_of_the_wrong_kind_is_an_imbalance():
    tally = begun()
    tally.take(2, "decision", "p.transactions", 0, 0, ACTIVE)
    tally.take(3, "decision", "p.labels", 0, 0, ACTIVE)
    ends = [Waiting("p.transactions", 0, 1), Waiting("p.labels", 0, 1)]
    found = equations(tally, ends, Letters(), Stored(), "p.")
    assert [(each.name, each.place, each.difference) for each in found if each.difference] == [("kinds", "p.labels", 1)]


def test_letters_without_entries_and_entries_without_letters_do_not_make_up_for_each_other():
    tally = begun()
    tally.take(2, "rejected", "labels", 0, 0)
    found = equations(tally, [Waiting("labels", 0, 1)], Letters(letters=1, unanswered=1, unwritten=1), Stored())
    assert imbalance(found) == 2


def test_what_sql_lacks_is_an_imbalance_unless_it_was_stored_before():
    assert imbalance(equations(Tally(), [], Letters(), Stored(9, entries=10, rows=8, repeats=2))) == 0
    assert imbalance(equations(Tally(), [], Letters(), Stored(9, entries=10, rows=8, repeats=1))) == 1
    assert imbalance(equations(Tally(), [], Letters(), Stored(9, entries=10, rows=11, repeats=0))) == 1


def test_a_topic_that_ends_before_what_the_journal_took_is_an_imbalance():
    tally = begun()
    for offset in range(3):
        tally.take(2 + offset, "decision", "transactions", 0, offset, ACTIVE)
    assert imbalance(equations(tally, [Waiting("transactions", 0, 1)], Letters(), Stored())) == 2


def different(tally):
    return {each.name: each.difference for each in equations(tally, [], Letters(), Stored()) if each.difference}


def test_a_journal_begins_once_and_then_changes_by_messages_alone():
    tally = begun()
    tally.take(2, "control", "control", 0, 0, ("strict", ""))
    tally.take(3, "assignment", "control", 0, 1, ("", "one"))
    tally.take(4, "decision", "transactions", 0, 0, ("strict", "one"))
    assert different(tally) == {}
    tally.take(5, "assignment", None, 0, 0)
    tally.take(6, "control", None, 0, 0, ("default", ""))
    assert different(tally) == {"changes": 2}
    tally.take(7, "decision", "transactions", 0, 1, ("default", ""))
    tally.take(8, "decision", "transactions", 0, 2, ("strict", "another"))
    tally.take(9, "decision", "transactions", 0, 3, ("strict", "one"))
    assert different(tally) == {"changes": 2, "active": 2}


def test_messages_that_were_answered_before_a_journal_began_are_an_imbalance():
    tally = Tally()
    tally.take(0, "rejected", "transactions", 0, 0)
    tally.take(1, "control", None, 0, 0, ACTIVE)
    assert different(tally)["changes"] == 2
