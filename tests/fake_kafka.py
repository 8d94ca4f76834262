"""The kafka-python classes that Plumbline uses, over a `FakeBroker`, with the library's own errors and oddities.

`installed` puts them in place of the library's in every module that makes clients, so all of our own code runs as it
is. A client finds its broker by the address it is given. Each call that would reach a broker goes through the address'
`call`, which a test may use to act before it, after it, or in its place.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeVar

import kafka
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import (
    IllegalStateError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    OffsetOutOfRangeError,
    ProducerFencedError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from kafka.partitioner.default import murmur2
from kafka.producer.future import FutureProduceResult, FutureRecordMetadata
from kafka.structs import OffsetAndTimestamp

import app.api.sending
import app.journal
import app.outbox
import streaming.kafka
from tests.fake_broker import FakeBroker

IDLE_SECONDS = 0.002
"""How long a `poll` that finds nothing waits at most: whatever its time-out says, a test must not stand still."""

T = TypeVar("T")
Call = Callable[[str, Callable[[], Any]], Any]
"""A call to outside: its name, such as `consumer.poll`, and the function that does it and returns its result."""


@dataclass(slots=True)
class Address:
    """A broker as one process reaches it.

    call: every client's call goes through it; give_most: records of one poll, whatever the client's own limit.
    """

    broker: FakeBroker
    call: Call = lambda name, act: act()
    give_most: int = 10**6


ADDRESSES: dict[str, Address] = {}
"""By host and port."""


@contextmanager
def reached(broker: FakeBroker, **more: Any) -> Iterator[str]:
    """A new address of a broker, as long as the context lasts."""
    name = f"fake-{random.randrange(2**48):x}:9092"
    ADDRESSES[name] = Address(broker, **more)
    try:
        yield name
    finally:
        del ADDRESSES[name]


def _address(config: Mapping[str, Any]) -> Address:
    return ADDRESSES[config["bootstrap_servers"][0]]


class FakeConsumer:
    """`kafka.KafkaConsumer` as far as it is used here: assigned or in a group, never committing offsets."""

    DEFAULT_CONFIG = kafka.KafkaConsumer.DEFAULT_CONFIG

    def __init__(self, **config: Any) -> None:
        self.config = {**self.DEFAULT_CONFIG, **config}
        self._at = _address(config)
        self._broker = self._at.broker
        self._positions: dict[TopicPartition, int | None] = {}
        self._paused: set[TopicPartition] = set()
        self._turn = 0
        self._closed = False
        self._idle = False
        self._member: Any = None
        self._listener: Any = None
        self._topics: tuple[str, ...] = ()
        self._fetcher = SimpleNamespace(_next_partition_records=None)
        self._cluster = SimpleNamespace(topic_id=self._broker.topic_ids.get)
        self._call("new", lambda: None)

    def _call(self, name: str, act: Callable[[], T]) -> T:
        if self._closed:
            raise IllegalStateError("KafkaConsumer is closed")
        found: T = self._at.call(f"consumer.{name}", act)
        return found

    # Positions, all on our side

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Take exactly these partitions."""
        self._positions = {each: self._positions.get(each) for each in partitions}

    def assignment(self) -> set[TopicPartition]:
        """The partitions taken."""
        return set(self._positions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Go on at an offset."""
        self._require(partition)
        self._positions[partition] = offset

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """Go on at the oldest records."""
        for each in partitions or tuple(self._positions):
            self._require(each)
            self._positions[each] = None

    def position(self, partition: TopicPartition) -> int:
        """The next offset; asks the broker after `seek_to_beginning`."""
        self._require(partition)
        if (found := self._positions[partition]) is None:
            found = self._call("position", lambda: self._broker.log(partition).begin)
            self._positions[partition] = found
        return found

    def pause(self, *partitions: TopicPartition) -> None:
        """Give nothing of these."""
        self._paused |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        """Give them again."""
        self._paused -= set(partitions)

    def highwater(self, partition: TopicPartition) -> int | None:
        """The end as it was seen last."""
        self._require(partition)
        return self._end(partition)

    def _require(self, partition: TopicPartition) -> None:
        if partition not in self._positions:
            raise IllegalStateError("Partition is not assigned")

    # Calls to the broker

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """Numbers of a topic's partitions; None for no such topic."""

        def act() -> set[int] | None:
            found = self._broker.partitions(topic)
            return None if found is None else {each.partition for each in found}

        return self._call("partitions_for_topic", act)

    def beginning_offsets(self, partitions: Sequence[TopicPartition], **_: Any) -> dict[TopicPartition, int]:
        """The oldest offset of each."""
        return self._call("beginning_offsets", lambda: {each: self._broker.log(each).begin for each in partitions})

    def end_offsets(self, partitions: Sequence[TopicPartition], **_: Any) -> dict[TopicPartition, int]:
        """The end of what this consumer may see."""
        return self._call("end_offsets", lambda: {each: self._end(each) for each in partitions})

    def offsets_for_times(self, timestamps: Mapping[TopicPartition, int], **_: Any) -> dict[TopicPartition, Any]:
        """The first record at or after a time, milliseconds; None where there is none."""

        def first(partition: TopicPartition, since_ms: int) -> OffsetAndTimestamp | None:
            found = [each for each in self._broker.log(partition).records if each.timestamp >= since_ms]
            return OffsetAndTimestamp(found[0].offset, found[0].timestamp, 0) if found else None

        return self._call("offsets_for_times", lambda: {each: first(each, at) for each, at in timestamps.items()})

    def _end(self, partition: TopicPartition) -> int:
        log = self._broker.log(partition)
        return log.stable_end() if self.config["isolation_level"] == "read_committed" else log.end

    def poll(self, timeout_ms: float = 0, max_records: int | None = None) -> dict[TopicPartition, list[ConsumerRecord]]:
        """The next records; a poll that again finds nothing is no call worth counting."""
        most = min(max_records or self.config["max_poll_records"], self._at.give_most)
        with self._broker.changed:
            quiet = self._idle and not self._something()
        name = "idle" if quiet else "poll"
        found = self._call(name, lambda: self._poll(most, min(timeout_ms / 1000, IDLE_SECONDS)))
        self._idle = not found
        return found

    def _something(self) -> bool:
        if self._member is not None:
            self._broker.balance(self.config["group_id"])
            if self._member.given or self._member.lost:
                return True
        return any(
            (position or 0) < self._end(each)
            for each, position in self._positions.items()
            if each not in self._paused and each in self._broker.logs
        )

    def _poll(self, most: int, seconds: float) -> dict[TopicPartition, list[ConsumerRecord]]:
        with self._broker.changed:
            if self._topics and self._member is None:
                self._member = self._broker.join(self.config["group_id"], self._topics)
            if not self._something():
                self._broker.changed.wait(seconds)
            if self._member is not None:
                self._rebalance()
            return self._taken(most)

    def _taken(self, most: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        found: dict[TopicPartition, list[ConsumerRecord]] = {}
        every = [each for each in self._positions if each not in self._paused and each in self._broker.logs]
        self._turn += 1
        for n in range(len(every)):
            partition = every[(self._turn + n) % len(every)]
            log, position = self._broker.log(partition), self._positions[partition]
            if position is None:
                position = log.begin
            if not log.begin <= position <= log.end:
                if self.config["auto_offset_reset"] == "none":
                    raise OffsetOutOfRangeError({partition: position})
                position = self._end(partition)
            end = self._end(partition)
            while position < end and most > 0:
                stored = log.at(position)
                position += 1
                if self._visible(stored):
                    most -= 1
                    found.setdefault(partition, []).append(_record(partition, stored))
            self._positions[partition] = position
        return found

    def _visible(self, stored: Any) -> bool:
        if stored.marker:
            return False
        committed = stored.transaction is None or stored.transaction.state == "committed"
        return committed or self.config["isolation_level"] == "read_uncommitted"

    # Groups

    def subscribe(self, topics: Sequence[str], listener: Any) -> None:
        """Join the group at the next poll."""
        self._listener, self._topics = listener, tuple(topics)

    def _rebalance(self) -> None:
        member = self._member
        if member.lost:
            lost, member.lost = member.lost, set()
            self._positions = {}
            self._listener.on_partitions_lost(sorted(lost))
            return  # it joins again before it can be given anything
        self._broker.balance(self.config["group_id"])
        if member.given:
            for each in member.given:
                self._positions[each] = self._broker.log(each).end
            self._listener.on_partitions_assigned(sorted(member.given))
            member.given = set()
            self._broker.changed.notify_all()

    def close(self, **_: Any) -> None:
        """Leave."""
        if self._closed:
            return
        self._call("close", lambda: None)
        self._closed = True
        if self._member is not None:
            if owned := sorted(self._member.owned - self._member.given):
                self._listener.on_partitions_revoked(owned)
            self._broker.leave(self.config["group_id"], self._member)


def _record(partition: TopicPartition, stored: Any) -> ConsumerRecord:
    sizes = [-1 if each is None else len(each) for each in (stored.key, stored.value)]
    return ConsumerRecord(
        partition.topic, partition.partition, 0, stored.offset, stored.timestamp, 1, stored.key, stored.value, [], None,
        *sizes, -1,
    )  # fmt: skip


class _Ended:
    """What `begin_commit` returns: the broker is asked when somebody waits for it."""

    def __init__(self, act: Callable[[int | None], bool]) -> None:
        self._act = act

    def wait(self, timeout_ms: int | None = None) -> bool:
        """Whether the transaction has ended."""
        return self._act(timeout_ms)


class FakeProducer:
    """`kafka.KafkaProducer` as far as it is used here: idempotent, with or without transactions.

    What is sent is in its log at once; a call that nobody answers leaves it in the state that the library would be in.
    """

    DEFAULT_CONFIG = kafka.KafkaProducer.DEFAULT_CONFIG

    def __init__(self, **config: Any) -> None:
        self.config = {**self.DEFAULT_CONFIG, **config}
        self._at = _address(config)
        self._broker = self._at.broker
        self._id: str | None = config.get("transactional_id")
        self._epoch = -1
        self._error: Exception | None = None
        self._begun = False
        self._closed = False
        self._spread = 0
        self._sender = SimpleNamespace(
            wakeup=lambda: None, force_close=lambda: None, join=lambda seconds=None: None
        )  # fmt: skip
        self._transaction_manager = SimpleNamespace(
            begin_commit=lambda: self._ending("committed"),
            begin_abort=lambda: self._ending("aborted"),
            maybe_add_partition_to_transaction=self._add_partition,
            is_transactional=lambda: self._id is not None,
        )
        self._call("new", lambda: None)

    def _call(self, name: str, act: Callable[[], T]) -> T:
        found: T = self._at.call(f"producer.{name}", act)
        return found

    def partitions_for(self, topic: str) -> set[int]:
        """Numbers of a topic's partitions. Raises KafkaTimeoutError for no such topic."""

        def act() -> set[int]:
            found = self._broker.partitions(topic)
            if not found:
                raise KafkaTimeoutError(f"no metadata of {topic}")
            return {each.partition for each in found}

        return self._call("partitions_for", act)

    def init_transactions(self) -> None:
        """A new epoch of its id."""

        def act() -> None:
            assert self._id is not None
            self._epoch = self._broker.begin_epoch(self._id).epoch

        self._call("init_transactions", act)

    def begin_transaction(self) -> None:
        """On our side alone."""
        self._fail_if_broken()
        if self._begun:
            raise IllegalStateError("a transaction is open already")
        self._begun = True

    def commit_transaction(self) -> None:
        """Commit, and wait for it."""
        self._transaction_manager.begin_commit().wait()

    def abort_transaction(self) -> None:
        """Abort, and wait for it."""
        self._transaction_manager.begin_abort().wait()

    def _fail_if_broken(self) -> None:
        if self._error is not None:
            raise KafkaError(f"Cannot execute transactional method because we are in an error state: {self._error}")

    def _add_partition(self, partition: TopicPartition) -> None:
        self._fail_if_broken()
        assert self._id is not None
        if not self._broker.is_fenced(self._id, self._epoch):
            self._broker.transaction_of(self._id).partitions.add(partition)

    def _ending(self, state: Any) -> _Ended:
        self._fail_if_broken()
        if not self._begun:
            raise IllegalStateError("no transaction is open")
        self._begun = False

        def act() -> bool:
            assert self._id is not None
            if self._broker.is_fenced(self._id, self._epoch):
                self._error = ProducerFencedError()
                raise self._error
            self._broker.end_transaction(self._id, state)
            return True

        def wait(_: int | None) -> bool:
            try:
                return self._call(state, act)
            except KafkaError as error:
                self._error = error  # what became of the transaction is not known: this producer ends no other one
                raise

        return _Ended(wait)

    def send(
        self, topic: str, value: bytes | None = None, key: bytes | None = None, partition: int | None = None, **_: Any
    ) -> FutureRecordMetadata:
        """A record that is in its log when this returns, or a future that has failed."""
        if self._closed:
            raise IllegalStateError("KafkaProducer already closed!")
        if value is None and key is None:
            raise ValueError("Need at least one: key or value")
        if self._id is not None:
            self._fail_if_broken()
        size = len(value or b"") + len(key or b"")
        if size > self.config["max_request_size"]:
            raise MessageSizeTooLargeError(f"The message is {size} bytes")

        def act() -> tuple[int, int, int] | Exception:
            found = sorted(each.partition for each in self._broker.partitions(topic) or ())
            if not found:
                raise UnknownTopicOrPartitionError(topic)
            number = partition if partition is not None else self._chosen(key, found)
            if self._id is None:
                made = self._broker.append(TopicPartition(topic, number), key, value)
            elif self._broker.is_fenced(self._id, self._epoch):
                self._error = ProducerFencedError()
                return self._error
            else:
                transaction = self._broker.transaction_of(self._id)
                made = self._broker.append(TopicPartition(topic, number), key, value, transaction)
            return number, made.offset, made.timestamp

        try:
            found = self._call("send", act)
        except KafkaError as error:
            if self._id is not None:
                self._error = error  # a record that failed fails the transaction with it
            found = error
        return self._future(topic, found, key, value)

    def _chosen(self, key: bytes | None, found: list[int]) -> int:
        if key is not None:
            return found[(murmur2(key) & 0x7FFFFFFF) % len(found)]
        self._spread += 1
        return found[self._spread % len(found)]

    def _future(self, topic: str, found: Any, key: bytes | None, value: bytes | None) -> FutureRecordMetadata:
        failed = isinstance(found, Exception)
        partition, offset, timestamp = (0, -1, -1) if failed else found
        produced = FutureProduceResult(TopicPartition(topic, partition))
        future = FutureRecordMetadata(produced, 0, timestamp, None, len(key or b""), len(value or b""), -1)
        if failed:
            produced.failure(found)
        else:
            produced.success((offset, timestamp, None))
        return future

    def flush(self, timeout: float | None = None) -> None:
        """Nothing is ever on its way."""
        self._call("flush", lambda: None)

    def close(self, timeout: float | None = None, **_: Any) -> None:
        """An open transaction stays open, as in the library."""
        if self._closed:
            return
        self._closed = True
        self._call("close", lambda: None)


class FakeAdmin:
    """`kafka.KafkaAdminClient` as far as it is used here."""

    DEFAULT_CONFIG = kafka.KafkaAdminClient.DEFAULT_CONFIG

    def __init__(self, **config: Any) -> None:
        self._at = _address(config)
        self._broker = self._at.broker
        self._call("new", lambda: None)

    def __enter__(self) -> "FakeAdmin":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, name: str, act: Callable[[], T]) -> T:
        found: T = self._at.call(f"admin.{name}", act)
        return found

    def list_topics(self) -> list[str]:
        """All topics' names."""
        return self._call("list_topics", lambda: sorted(self._broker.configs))

    def create_topics(self, wanted: Mapping[str, Mapping[str, Any]]) -> None:
        """Raises TopicAlreadyExistsError."""

        def act() -> None:
            for name, request in wanted.items():
                if name in self._broker.configs:
                    raise TopicAlreadyExistsError(name)
                self._broker.create(name, request["num_partitions"], dict(request.get("configs") or {}))

        self._call("create_topics", act)

    def delete_topics(self, names: Sequence[str], **_: Any) -> None:
        """Topics and their records go."""

        def act() -> None:
            for each in names:
                self._broker.delete(each)

        self._call("delete_topics", act)

    def wait_for_topics(self, names: Sequence[str], **_: Any) -> None:
        """They are there at once."""

    def describe_topics(self, names: Sequence[str], **_: Any) -> list[dict[str, Any]]:
        """Name and partitions of each."""

        def one(name: str) -> dict[str, Any]:
            found = sorted(each.partition for each in self._broker.partitions(name) or ())
            return {"name": name, "partitions": [{"partition_index": each} for each in found]}

        return self._call("describe_topics", lambda: [one(each) for each in names])

    def describe_configs(self, resources: Sequence[Any], **_: Any) -> dict[str, Any]:
        """The settings that each topic was made with."""

        def one(name: str) -> dict[str, Any]:
            return {key: {"value": value} for key, value in self._broker.configs[name].items()}

        return self._call("describe_configs", lambda: {"topic": {each.name: one(each.name) for each in resources}})

    def delete_records(self, wanted: Mapping[TopicPartition, int], **_: Any) -> dict[TopicPartition, Any]:
        """Forget what lies before an offset."""
        return self._call(
            "delete_records",
            lambda: {each: {"low_watermark": self._broker.delete_before(each, at)} for each, at in wanted.items()},
        )

    def close(self, **_: Any) -> None:
        """Leave."""


CLIENTS: tuple[tuple[Any, str, type], ...] = (
    (streaming.kafka, "KafkaConsumer", FakeConsumer),
    (streaming.kafka, "KafkaProducer", FakeProducer),
    (streaming.kafka, "KafkaAdminClient", FakeAdmin),
    (app.journal, "KafkaConsumer", FakeConsumer),
    (app.outbox, "KafkaProducer", FakeProducer),
    (app.api.sending, "KafkaProducer", FakeProducer),
)
"""Where clients are made: module, the class' name there, and what takes its place."""


@contextmanager
def installed() -> Iterator[None]:
    """The fake clients in place of the library's, as long as the context lasts."""
    former = [(module, name, getattr(module, name)) for module, name, _ in CLIENTS]
    for module, name, fake in CLIENTS:
        setattr(module, name, fake)
    try:
        yield
    finally:
        for module, name, real in former:
            setattr(module, name, real)


UNREACHABLE = (KafkaTimeoutError, KafkaConnectionError, NodeNotReadyError)
"""Ways in which the library says that nobody answered."""
