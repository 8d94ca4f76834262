"""Kafka clients as every part of Plumbline builds them: one place for the settings that correctness rests on.

Why each setting is what it is, and what kafka-python does that one would not expect, stands in docs/broker.md.
"""

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import structlog
from kafka import (
    ConsumerRebalanceListener,
    KafkaAdminClient,
    KafkaConsumer,
    KafkaProducer,
    TopicPartition,
)
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import (
    KafkaConnectionError,
    KafkaTimeoutError,
    MetadataEmptyBrokerList,
    NodeNotReadyError,
    RequestTimedOutError,
)

from plumbline.errors import BrokerUnavailable, NotFound
from plumbline.names import DEAD_LETTER_MAX_BYTES
from streaming.record_batches import install

log = structlog.get_logger()

CONNECT_MS: Final = 10_000
"""How long a new client looks for the broker before it gives up."""

DELIVERY_MS: Final = 60_000
"""How long a record may wait for its acknowledgement, with all retries: longer than a broker's restart."""

QUIET_SECONDS: Final = 10.0
FETCH_BYTES: Final = 8 * 2**20
BATCH_BYTES: Final = 128 * 2**10
REQUEST_BYTES: Final = DEAD_LETTER_MAX_BYTES

_UNREACHABLE: Final = (
    KafkaConnectionError,
    KafkaTimeoutError,
    MetadataEmptyBrokerList,
    NodeNotReadyError,
    RequestTimedOutError,
)

_SHARED: Final[dict[str, Any]] = {
    "bootstrap_timeout_ms": CONNECT_MS,
    # A restarted broker is found again within a second; the library's own limit is 30 s.
    "reconnect_backoff_ms": 50,
    "reconnect_backoff_max_ms": 1000,
    # A misspelt topic is an error, never a new topic.
    "allow_auto_create_topics": False,
    "metrics_enabled": False,
}


class _Seldom(logging.Filter):
    """Lets one line through every ten seconds: while a broker is away, each attempt to connect logs several."""

    def __init__(self) -> None:
        super().__init__()
        self._last = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if record.created - self._last < QUIET_SECONDS:
            return False
        self._last = record.created
        return True


for _name in ("kafka.net.connection", "kafka.net.manager", "kafka.net.transport"):
    logging.getLogger(_name).addFilter(_Seldom())


@contextmanager
def reaching(bootstrap: str) -> Iterator[None]:
    """Turns the library's several ways to say "no answer" into BrokerUnavailable, with the address."""
    try:
        yield
    except _UNREACHABLE as error:
        raise BrokerUnavailable(
            f"Kafka does not answer at {bootstrap} ({error}): start it with `plumbline broker`, or name another one in "
            "PLUMBLINE_KAFKA_BOOTSTRAP"
        ) from error


def reader(
    bootstrap: str,
    positions: Mapping[TopicPartition, int] | Sequence[TopicPartition],
    *,
    committed_only: bool = True,
    most_records: int = 512,
    damaged: bool = False,
) -> KafkaConsumer:
    """A consumer without a group, over exactly these partitions; it commits nothing.

    positions: the next offset of each partition, or partitions alone to start at their beginning; committed_only:
    hide aborted transactions, and what is not committed yet; most_records: limit of one `poll`. An offset that the
    topic no longer holds raises OffsetOutOfRangeError from `poll` instead of skipping records silently. damaged: give
    `plumbline.message.Damaged` as the value of messages that cannot be read; `poll` raises JournalRefused otherwise.
    Raises BrokerUnavailable.
    """
    with reaching(bootstrap):
        consumer = KafkaConsumer(**_SHARED, **_reading(bootstrap, committed_only, most_records))
        install(consumer, damaged=damaged)
        consumer.assign(list(positions))
        if isinstance(positions, Mapping):
            for partition, offset in positions.items():
                consumer.seek(partition, offset)
        elif positions:
            consumer.seek_to_beginning(*positions)
    return consumer


def member(
    bootstrap: str,
    group: str,
    topics: Sequence[str],
    listener: ConsumerRebalanceListener,
    *,
    session_timeout_ms: int,
) -> KafkaConsumer:
    """A member of a consumer group, which hears of its partitions through the listener; it commits nothing by itself.

    session_timeout_ms: after this long without a heartbeat the group gives the member's partitions to another one.
    Raises BrokerUnavailable.
    """
    with reaching(bootstrap):
        consumer = KafkaConsumer(
            **_SHARED,
            # A membership is about who, not about records: where to read from is of no matter.
            **{**_reading(bootstrap, True, 512), "auto_offset_reset": "latest"},
            group_id=group,
            # A new member's arrival takes nothing away from the old ones: who leads goes on leading.
            partition_assignment_strategy=[CooperativeStickyAssignor()],
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=max(session_timeout_ms // 4, 1),
            # A member that joins before it knows the topics' partitions is given none, and the group is only balanced
            # anew when the one that assigned hears of them: the library would ask again after five minutes.
            metadata_max_age_ms=session_timeout_ms,
        )
        consumer.subscribe(topics=list(topics), listener=listener)
        for topic in topics:
            consumer.partitions_for_topic(topic)
    return consumer


def _reading(bootstrap: str, committed_only: bool, most_records: int) -> dict[str, Any]:
    return {
        "bootstrap_servers": bootstrap.split(","),
        "client_id": f"plumbline-{uuid.uuid4().hex[:8]}",
        "isolation_level": "read_committed" if committed_only else "read_uncommitted",
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "max_poll_records": most_records,
        "max_partition_fetch_bytes": FETCH_BYTES,
        # The broker holds an empty fetch no longer than this, and answers at once when anything arrives.
        "fetch_max_wait_ms": 100,
        "fetch_min_bytes": 1,
    }


def resume(consumer: KafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
    """`KafkaConsumer.resume`, and make sure that what was fetched before the pause is given out.

    kafka-python 3.0.12 takes such records up again only where no other partition's are at hand, and counts those that
    were given out to the last one as at hand: the partition would give nothing any more.
    """
    consumer.resume(*partitions)
    fetcher = consumer._fetcher
    if not fetcher._next_partition_records:
        fetcher._next_partition_records = None


def idempotent_producer(bootstrap: str, *, linger_ms: int = 0) -> KafkaProducer:
    """A producer whose retries neither double nor reorder records; acknowledged means written by every replica.

    linger_ms: how long a record may wait for company; 0 for latency, some 5 for throughput. Raises BrokerUnavailable.
    """
    with reaching(bootstrap):
        return KafkaProducer(**_SHARED, **_writing(bootstrap), linger_ms=linger_ms)


def transactional_producer(bootstrap: str, transactional_id: str, timeout_ms: int) -> KafkaProducer:
    """A producer that fences every older one of the same `transactional_id`, ready for `begin_transaction`.

    timeout_ms: the broker aborts a transaction that stays open longer. Raises BrokerUnavailable.
    """
    with reaching(bootstrap):
        producer = KafkaProducer(
            **_SHARED, **_writing(bootstrap), transactional_id=transactional_id, transaction_timeout_ms=timeout_ms
        )
        try:
            producer.init_transactions()
        except BaseException:
            close_producer(producer, 1.0)
            raise
    return producer


def commit(producer: KafkaProducer, timeout_ms: int) -> None:
    """Commit the transaction under way, or raise KafkaTimeoutError when the broker does not say so in time.

    `KafkaProducer.commit_transaction` waits without limit, and there are times at which nothing it waits for comes: a
    producer whose broker was killed may sit still long after the broker is back. Whether the transaction was committed
    is unknown then; a new producer of the same id settles it.
    """
    ended = producer._transaction_manager.begin_commit()
    producer._sender.wakeup()
    if not ended.wait(timeout_ms):
        raise KafkaTimeoutError(f"the broker did not commit a transaction within {timeout_ms} ms")


def close_off(producer: KafkaProducer, wanted: Sequence[TopicPartition], timeout_ms: int) -> None:
    """Commit an empty transaction in partitions: it closes what was left open there, and bars older producers.

    A broker that stalls for longer than its session may answer that a transaction was ended without having written so
    into the partitions ("Couldn't find leader endpoint ... hence can be skipped" in its log). What lies open there
    would become visible with the next transaction of the same `transactional_id`, behind the back of whoever had read
    to the end. The empty transaction's markers end it now, and carry the epoch that the partitions themselves compare,
    so that a late request of an older producer is refused by them too. Raises KafkaTimeoutError, ProducerFencedError.
    """
    producer.begin_transaction()
    for each in wanted:
        producer._transaction_manager.maybe_add_partition_to_transaction(each)
    commit(producer, timeout_ms)


def close_producer(producer: KafkaProducer, seconds: float) -> None:
    """Waits so long for what was sent, then abandons the rest.

    `KafkaProducer.close` alone raises while Kafka is away, keeps its thread going, and raises again at exit.
    """
    try:
        producer.close(timeout=seconds)
    except KafkaTimeoutError as error:
        log.warning("unacknowledged messages are abandoned", error=str(error))
        producer._sender.force_close()
        producer._sender.join(seconds)
        producer.close(timeout=seconds)


def _writing(bootstrap: str) -> dict[str, Any]:
    return {
        "bootstrap_servers": bootstrap.split(","),
        "client_id": f"plumbline-{uuid.uuid4().hex[:8]}",
        "enable_idempotence": True,
        "acks": "all",
        "max_in_flight_requests_per_connection": 5,
        "delivery_timeout_ms": DELIVERY_MS,
        "batch_size": BATCH_BYTES,
        "max_request_size": REQUEST_BYTES,
        "max_block_ms": CONNECT_MS,
    }


def administrator(bootstrap: str) -> KafkaAdminClient:
    """A client for topics and their settings. Raises BrokerUnavailable."""
    with reaching(bootstrap):
        shared = {name: value for name, value in _SHARED.items() if name in KafkaAdminClient.DEFAULT_CONFIG}
        return KafkaAdminClient(**shared, bootstrap_servers=bootstrap.split(","))


def partitions(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    """All partitions of a topic, in order. Raises NotFound when it does not exist."""
    found = consumer.partitions_for_topic(topic)
    if not found:
        raise NotFound(f"no topic {topic}: create it with `plumbline topics`")
    return [TopicPartition(topic, number) for number in sorted(found)]


def topic_ids(consumer: KafkaConsumer, topics: Sequence[str]) -> dict[str, str]:
    """The ids that Kafka gave to topics when they were created, as the consumer knows them; "" where it knows none.

    A topic that is deleted and created again has another id. Brokers older than Kafka 2.8 give none.
    """
    found = {topic: consumer._cluster.topic_id(topic) for topic in topics}
    return {topic: "" if given is None else str(given) for topic, given in found.items()}


def end_offsets(bootstrap: str, topics: Sequence[str], *, committed_only: bool = True) -> dict[TopicPartition, int]:
    """The offset after the newest record of every partition of the topics; 0 for an empty one.

    committed_only: the end of what a `reader` of committed records can see. Raises BrokerUnavailable, NotFound.
    """
    consumer = reader(bootstrap, [], committed_only=committed_only)
    try:
        with reaching(bootstrap):
            wanted = [partition for topic in topics for partition in partitions(consumer, topic)]
            return dict(consumer.end_offsets(wanted))
    finally:
        consumer.close()
