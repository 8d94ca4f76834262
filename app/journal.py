"""Reading the journal topic from a given offset: committed records alone, in order, none skipped.

The scorer has a reader of its own in `streaming`; `app` and `streaming` meet in Kafka only.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError

from plumbline import journal
from plumbline.decision import Decision
from plumbline.errors import BrokerUnavailable, JournalRefused

ANSWER_MS: Final = 5_000
FETCH_BYTES: Final = 8 * 2**20
MOST_RECORDS: Final = 5_000

CLIENT: Final[dict[str, Any]] = {
    "bootstrap_timeout_ms": ANSWER_MS,
    # A restarted broker is found again within a second, not within the library's 30.
    "reconnect_backoff_max_ms": 1_000,
    # A misspelt topic is an error, never a new topic.
    "allow_auto_create_topics": False,
    "metrics_enabled": False,
}
"""Settings that consumer and producer share."""


@contextmanager
def reaching(bootstrap: str) -> Iterator[None]:
    """Turns the library's errors into BrokerUnavailable, and offsets that are gone into JournalRefused."""
    try:
        yield
    except OffsetOutOfRangeError as error:
        raise JournalRefused(
            f"Kafka at {bootstrap} no longer holds the journal where SQL ends ({error}): restore the topic, or start "
            "with the database that belongs to it"
        ) from error
    except KafkaError as error:
        raise BrokerUnavailable(
            f"Kafka does not answer at {bootstrap} ({error}): start it, or change PLUMBLINE_KAFKA_BOOTSTRAP"
        ) from error


def open_reader(bootstrap: str, partition: TopicPartition) -> KafkaConsumer:
    """A consumer of one journal partition, without a group and without a position yet; the caller closes it.

    Raises BrokerUnavailable, also while the topic does not exist.
    """
    with reaching(bootstrap):
        consumer = KafkaConsumer(
            **CLIENT,
            bootstrap_servers=bootstrap.split(","),
            client_id=f"plumbline-ledger-{uuid.uuid4().hex[:8]}",
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_poll_records=MOST_RECORDS,
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=100,
        )
    try:
        with reaching(bootstrap):
            found = consumer.partitions_for_topic(partition.topic)
        if not found:
            raise BrokerUnavailable(f"no topic {partition.topic} at {bootstrap} yet: create it with `plumbline topics`")
        consumer.assign([partition])
    except BaseException:
        consumer.close()
        raise
    return consumer


def bounds(consumer: KafkaConsumer, bootstrap: str, partition: TopicPartition) -> tuple[int, int]:
    """The oldest offset that the topic still holds, and the offset after the newest committed record."""
    with reaching(bootstrap):
        first = consumer.beginning_offsets([partition], timeout_ms=ANSWER_MS)[partition]
        return first, consumer.end_offsets([partition], timeout_ms=ANSWER_MS)[partition]


def require_holds(
    consumer: KafkaConsumer, bootstrap: str, partition: TopicPartition, first: int, decided: tuple[int, str] | None
) -> None:
    """Raises JournalRefused when the journal does not hold a decision that SQL has stored: then it is another one.

    first: the oldest offset that the topic holds; decided: the decision's offset, which the journal reaches, and its
    transaction id; None where SQL has none. Moves the consumer's position.
    """
    if decided is None or decided[0] < first:
        return
    sequence, transaction_id = decided
    consumer.seek(partition, sequence)
    entry = None
    with reaching(bootstrap):
        while entry is None and consumer.position(partition) <= sequence:
            for record in consumer.poll(timeout_ms=ANSWER_MS).get(partition, [])[:1]:
                entry = journal.decode(record.value) if record.offset == sequence else record
    if not isinstance(entry, Decision) or entry.transaction.transaction_id != transaction_id:
        raise JournalRefused(
            f"the journal {partition.topic} does not hold the decision on {transaction_id} at {sequence}, where SQL "
            "has it from: it was created again, or is another installation's; point PLUMBLINE_DATABASE_URL to "
            "the database that belongs to it, or start with an empty one"
        )


def starting_offset(stored: int | None, first: int, end: int, topic: str) -> int:
    """Where reading begins, given where SQL ends and what the topic holds.

    stored: the next offset by SQL, None for an empty database; first, end: as `bounds` gives them.
    Raises JournalRefused when the two cannot belong together.
    """
    if stored is None:
        return first
    if stored < first:
        raise JournalRefused(
            f"the journal {topic} begins at {first}, but SQL ends before {stored}: what lies between is gone from "
            "Kafka; restore the topic, or start with an empty database"
        )
    if stored > end:
        raise JournalRefused(
            f"the journal {topic} ends before {end}, but SQL holds it up to {stored}: this is another journal, or one "
            "cut short; point PLUMBLINE_DATABASE_URL to the database that belongs to it"
        )
    return stored
