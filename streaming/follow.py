"""Following the journal until it holds the answer to a given message."""

import threading
import time
from typing import Final

import msgspec
from kafka import TopicPartition

from plumbline.decision import Source
from plumbline.errors import Unready
from plumbline.names import Topic
from streaming.kafka import end_offsets, reader

POLL_MS: Final = 100
PATIENCE_SECONDS: Final = 60.0


class _Sourced(msgspec.Struct):
    """The only part of a journal entry that matters here; everything else is skipped unread."""

    source: Source | None = None


class JournalFollower:
    """Reads the journal from where it ends now, and knows the newest source offset answered in it."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        """Raises BrokerUnavailable, and NotFound when there is no journal."""
        name = prefix + Topic.DECISIONS.value
        self._consumer = reader(bootstrap, end_offsets(bootstrap, [name]), most_records=2048)
        self._decoder = msgspec.json.Decoder(_Sourced)
        self._answered: dict[TopicPartition, int] = {}

    def wait_for(self, sent: TopicPartition, offset: int, stop: threading.Event) -> None:
        """Returns when the message at this offset has its entry in the journal, or when `stop` is set.

        Raises Unready when the journal stands still for a minute.
        """
        last_entry = time.monotonic()
        while self._answered.get(sent, -1) < offset and not stop.is_set():
            polled = self._consumer.poll(timeout_ms=POLL_MS)
            for records in polled.values():
                for record in records:
                    source = self._decoder.decode(record.value).source
                    if source is not None:
                        self._answered[TopicPartition(source.topic, source.partition)] = source.offset
            if polled:
                last_entry = time.monotonic()
            elif time.monotonic() - last_entry > PATIENCE_SECONDS:
                raise Unready(
                    f"the journal has had no new entry for {PATIENCE_SECONDS:.0f} s and lacks the answer to offset "
                    f"{offset} of {sent.topic}: start the scorer with `plumbline score`, or play without --in-step"
                )

    def close(self) -> None:
        """Leaves the journal."""
        self._consumer.close()
