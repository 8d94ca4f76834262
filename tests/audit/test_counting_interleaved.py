"""Conservation while everything runs: whatever happens between two looks at Kafka, only planted faults are counted."""

from collections import namedtuple

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import TopicPartition

from audit.counting import Counting, Head, Kept
from plumbline.decision import Source

Record = namedtuple("Record", "offset value timestamp")
SOURCES = (
    TopicPartition("transactions", 0), TopicPartition("transactions", 1), TopicPartition("labels", 0),
    TopicPartition("control", 0),
)  # fmt: skip
LETTERS = TopicPartition("transactions.dead-letter", 0)
ACTIVE = {"policy_version": "first"}


class World:
    """Topics and a journal that go on by some events each time somebody asks anything of them.

    events: (what, partition) in their order: `message` and `empty` are places in a partition of a source; `answer`,
    `reject`, `skip` and `twice` are what becomes of the oldest message there that has no answer yet.
    """

    def __init__(self, events, steps):
        self.events, self.steps = iter(events), iter(steps)
        self.places = {each: [] for each in SOURCES}
        self.letters = []
        self.answered = dict.fromkeys(SOURCES, 0)
        self.journal = [Head("assignment"), Head("control", policy_version="first")]

    def go_on(self):
        for _ in range(next(self.steps, 0)):
            self.apply(*next(self.events, (None, None)))

    def finish(self):
        for what, partition in self.events:
            self.apply(what, partition)

    def apply(self, what, partition):
        if what in ("message", "empty"):
            self.places[partition].append(what)
        elif what is not None:
            places = self.places[partition]
            waiting = [n for n in range(self.answered[partition], len(places)) if places[n] == "message"]
            if not waiting:
                return
            self.answered[partition] = waiting[0] + 1
            if what == "skip":
                return
            kind = "rejected" if what == "reject" else "decision"
            kind = {"labels": "label", "control": "control"}.get(partition.topic, kind) if what != "reject" else kind
            source = Source(partition.topic, partition.partition, waiting[0], 0)
            entry = Head(kind, source, **ACTIVE)
            self.journal += [entry] * (2 if what == "twice" else 1)
            if what == "reject":
                self.letters.append(source)

    # What `Counting` asks of a consumer.

    def partitions_for_topic(self, topic):
        self.go_on()
        return {each.partition for each in SOURCES if each.topic == topic}

    def end_offsets(self, wanted):
        found = {}
        for each in wanted:
            self.go_on()
            found[each] = len(self.letters) if each == LETTERS else len(self.places[each])
        return found

    def beginning_offsets(self, wanted):
        self.go_on()
        return dict.fromkeys(wanted, 0)

    def assign(self, wanted):
        (self.at,) = wanted

    def seek(self, partition, offset):
        self.offset = offset

    def position(self, partition):
        return self.offset

    def poll(self, timeout_ms):
        self.go_on()
        if self.at == LETTERS:
            found = [Record(n, msgspec.json.encode({"source": each}), 0) for n, each in enumerate(self.letters)]
        else:
            found = [Record(n, b"", n) for n, each in enumerate(self.places[self.at]) if each == "message"]
        records = [each for each in found if each.offset >= self.offset]
        self.offset = len(self.letters) if self.at == LETTERS else len(self.places[self.at])
        return {self.at: records}

    def close(self):
        pass


def planted(world, folded):
    """Messages passed over, and entries too many, among the journal's first `folded` entries: what must be counted."""
    lost = doubled = 0
    for partition, places in world.places.items():
        offsets = [
            each.source.offset
            for each in world.journal[:folded]
            if each.source is not None and (each.source.topic, each.source.partition) == partition
        ]
        doubled += len(offsets) - len(set(offsets))
        reached = max(offsets, default=-1)
        lost += sum(places[n] == "message" and n not in offsets for n in range(reached))
    return lost, doubled


def one_round(world, counting, folded, over):
    """Look once, as the watching process does; over: entries beyond the journal's end that a poll brings along."""
    ends = counting.ends()
    world.go_on()
    end = len(world.journal)
    world.go_on()
    stop = min(end + over, len(world.journal))
    middle = (folded + stop) // 2
    for first, last in ((folded, middle), (middle, stop)):
        counting.take(list(enumerate(world.journal))[first:last])
        world.go_on()
    return counting.balance(ends, 1000), stop


def acts(*faults):
    kinds = st.sampled_from(("message", "message", "empty", "answer", "answer", "reject", *faults))
    return st.lists(st.tuples(kinds, st.sampled_from(SOURCES)), min_size=60, max_size=200)


@settings(max_examples=300, deadline=None)
@given(acts("skip", "twice"), st.lists(st.integers(0, 3), min_size=80, max_size=120), st.integers(0, 5))
def test_only_planted_faults_are_counted_whatever_happens_between_two_looks(events, steps, over):
    world = World(events, steps)
    counting = Counting("", "", None, Kept(), lambda *_, **__: world)
    folded = 0
    for _ in range(4):
        balanced, folded = one_round(world, counting, folded, over)
        assert balanced.imbalance == sum(planted(world, folded)), balanced.equations
    world.finish()
    balanced, folded = one_round(world, counting, folded, over)
    assert folded == len(world.journal)
    assert balanced.imbalance == sum(planted(world, folded)), balanced.equations
    assert balanced.waiting == sum(
        places[n] == "message"
        for partition, places in world.places.items()
        for n in range(counting.kept.tally.place(*partition).next_offset, len(places))
    )


def test_a_partition_that_lost_its_end_is_an_imbalance():
    world = World([], [])
    for _ in range(3):
        world.apply("message", SOURCES[0])
        world.apply("answer", SOURCES[0])
    counting = Counting("", "", None, Kept(), lambda *_, **__: world)
    balanced, folded = one_round(world, counting, 0, 0)
    assert balanced.imbalance == 0
    del world.places[SOURCES[0]][1:]
    assert one_round(world, counting, folded, 0)[0].imbalance == 2
