"""An Apache Kafka in memory: partitions, transactions with markers, fencing and groups, as Plumbline relies on them.

It holds what a broker holds and does it in one process under one lock, so a test decides what happens between any two
calls. `tests.fake_kafka` has the clients; tests/streaming/test_fake_kafka.py runs the same cases on a real broker.
"""

import copy
import itertools
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from kafka import TopicPartition
from kafka.errors import OffsetOutOfRangeError, UnknownTopicOrPartitionError
from kafka.producer.transaction_manager import ProducerIdAndEpoch

from tests.fakes import NOW

LEASE_PATIENCE_SECONDS = 30.0


@dataclass(slots=True)
class Transaction:
    """One transaction of a transactional id, and the partitions it has written to."""

    state: Literal["open", "committed", "aborted"] = "open"
    partitions: set[TopicPartition] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Stored:
    """A record in a partition's log; a marker has neither key nor value."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    transaction: Transaction | None = None
    marker: bool = False


@dataclass(slots=True)
class Log:
    """A partition: its records, and the oldest offset it still holds."""

    records: list[Stored] = field(default_factory=list)
    begin: int = 0

    @property
    def end(self) -> int:
        """The offset after the newest record, markers included."""
        return self.begin + len(self.records)

    def stable_end(self) -> int:
        """The end of what a reader of committed records may see: the first record of an open transaction."""
        for each in self.records:
            if each.transaction is not None and each.transaction.state == "open":
                return each.offset
        return self.end

    def at(self, offset: int) -> Stored:
        """The record at an offset that is held."""
        return self.records[offset - self.begin]


@dataclass(slots=True)
class Id:
    """A transactional id: its newest producer's epoch, and the transaction it has open."""

    producer_id: int
    epoch: int = -1
    open: Transaction | None = None


@dataclass(slots=True, eq=False)
class Member:
    """One consumer in a group: what it has been given, and what it has not been told of yet."""

    topics: tuple[str, ...]
    owned: set[TopicPartition] = field(default_factory=set)
    given: set[TopicPartition] = field(default_factory=set)
    lost: set[TopicPartition] = field(default_factory=set)


@dataclass(slots=True)
class Group:
    """The members in the order in which they joined; whoever has a partition keeps it as long as it is a member."""

    members: list[Member] = field(default_factory=list)


class FakeBroker:
    """Topics, transactional ids and groups; every method is atomic.

    now_ms: the broker's clock, which stamps what is appended; `lease_open` holds back what groups give out.
    """

    def __init__(self, now_ms: Callable[[], int] = lambda: NOW // 1000) -> None:
        self.now_ms = now_ms
        self.logs: dict[TopicPartition, Log] = {}
        self.configs: dict[str, dict[str, str]] = {}
        self.topic_ids: dict[str, uuid.UUID] = {}
        self._created = 0
        self.ids: dict[str, Id] = {}
        self.groups: dict[str, Group] = {}
        self.gives: Callable[[], bool] = lambda: True
        self.changed = threading.Condition(threading.RLock())

    def copy(self) -> "FakeBroker":
        """The same topics and ids with nobody connected; changes of one do not reach the other."""
        made = FakeBroker(self.now_ms)
        with self.changed:
            made.logs, made.configs, made.ids = copy.deepcopy((self.logs, self.configs, self.ids))
            made.topic_ids, made._created = dict(self.topic_ids), self._created
        return made

    # Topics

    def create(self, topic: str, partitions: int, config: dict[str, str]) -> None:
        """A topic that does not exist yet."""
        with self.changed:
            self.configs[topic] = config
            self._created += 1
            self.topic_ids[topic] = uuid.UUID(int=self._created)
            for number in range(partitions):
                self.logs[TopicPartition(topic, number)] = Log()

    def delete(self, topic: str) -> None:
        """A topic and all its records."""
        with self.changed:
            del self.configs[topic], self.topic_ids[topic]
            for each in self.partitions(topic) or ():
                del self.logs[each]

    def partitions(self, topic: str) -> set[TopicPartition] | None:
        """A topic's partitions; None where there is no such topic."""
        found = {each for each in self.logs if each.topic == topic}
        return found or None

    def log(self, partition: TopicPartition) -> Log:
        """A partition's log. Raises the library's error for one that does not exist."""
        try:
            return self.logs[partition]
        except KeyError:
            raise UnknownTopicOrPartitionError(str(partition)) from None

    def delete_before(self, partition: TopicPartition, offset: int) -> int:
        """As retention does: forget records before an offset; -1 is the end. Returns the oldest offset held."""
        with self.changed:
            log = self.log(partition)
            until = log.end if offset == -1 else offset
            if not log.begin <= until <= log.end:
                raise OffsetOutOfRangeError(str(partition))
            del log.records[: until - log.begin]
            log.begin = until
            return until

    def append(
        self, partition: TopicPartition, key: bytes | None, value: bytes | None,
        transaction: Transaction | None = None, *, marker: bool = False,
    ) -> Stored:  # fmt: skip
        """The record as it lies in the log now."""
        with self.changed:
            log = self.log(partition)
            made = Stored(log.end, self.now_ms(), key, value, transaction, marker)
            log.records.append(made)
            if transaction is not None:
                transaction.partitions.add(partition)
            self.changed.notify_all()
            return made

    # Transactions

    def begin_epoch(self, transactional_id: str) -> ProducerIdAndEpoch:
        """A new producer of an id: older ones are fenced, and what the last one left open is aborted."""
        with self.changed:
            found = self.ids.setdefault(transactional_id, Id(producer_id=len(self.ids) + 1))
            self._end(found, "aborted")
            found.epoch += 1
            return ProducerIdAndEpoch(found.producer_id, found.epoch)

    def is_fenced(self, transactional_id: str, epoch: int) -> bool:
        """Whether a producer of this epoch has been replaced."""
        return self.ids[transactional_id].epoch != epoch

    def transaction_of(self, transactional_id: str) -> Transaction:
        """The transaction that an id has open, a new one where it has none."""
        with self.changed:
            found = self.ids[transactional_id]
            if found.open is None:
                found.open = Transaction()
            return found.open

    def end_transaction(self, transactional_id: str, state: Literal["committed", "aborted"]) -> None:
        """Commit or abort what an id has open."""
        with self.changed:
            self._end(self.ids[transactional_id], state)

    def time_out(self) -> None:
        """Abort every open transaction and fence its producer, as the broker does after the transaction's timeout."""
        with self.changed:
            for each in self.ids.values():
                if each.open is not None:
                    self._end(each, "aborted")
                    each.epoch += 1

    def _end(self, of: Id, state: Literal["committed", "aborted"]) -> None:
        if of.open is None:
            return
        ended, of.open = of.open, None
        ended.state = state
        for partition in sorted(ended.partitions):
            if partition in self.logs:
                self.append(partition, None, None, ended, marker=True)
        self.changed.notify_all()

    # Groups

    def join(self, group: str, topics: tuple[str, ...]) -> Member:
        """A new member of a group."""
        with self.changed:
            member = Member(topics)
            self._members(group).append(member)
            return member

    def leave(self, group: str, member: Member) -> None:
        """A member that goes, or whose session ran out; the next one is given what it had."""
        with self.changed:
            members = self._members(group)
            if member in members:
                members.remove(member)
            self.changed.notify_all()

    def expire(self, group: str, member: Member) -> None:
        """A member's silence was longer than its session: it has lost everything, joins again, and is the last."""
        with self.changed:
            members = self._members(group)
            if member in members:
                members.remove(member)
                members.append(member)
                member.lost |= member.owned - member.given
                member.owned, member.given = set(), set()
            self.changed.notify_all()

    def _members(self, group: str) -> list[Member]:
        return self.groups.setdefault(group, Group()).members

    def expire_all(self) -> None:
        """Every member of every group was silent for too long."""
        for name, group in list(self.groups.items()):
            for member in list(group.members):
                self.expire(name, member)

    def balance(self, group: str) -> None:
        """Give partitions that nobody has to members in their turn; nobody who has one gives it up."""
        with self.changed:
            members = self._members(group)
            if not members or not self.gives():
                return
            topics = {topic for each in members for topic in each.topics}
            owned = {each for member in members for each in member.owned}
            turn = itertools.count()
            for partition in sorted(set().union(*(self.partitions(topic) or set() for topic in topics)) - owned):
                wanting = [each for each in members if partition.topic in each.topics and not each.lost]
                if wanting:
                    taker = min(wanting, key=lambda each: (len(each.owned), members.index(each), next(turn)))
                    taker.owned.add(partition)
                    taker.given.add(partition)
