"""Verdicts leave the database for the `labels` topic: acknowledged by every replica first, marked in SQL after.

Killed between the two, the next start sends a verdict again, byte for byte, with the same label_id: whoever reads
labels by their id sees it once.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec
import sqlalchemy as sa
import structlog
from kafka import KafkaProducer

from app.journal import CLIENT, reaching
from plumbline.label import Label
from store.engine import transaction
from store.labels import label_of, mark_published, waiting_verdicts

log = structlog.get_logger()

BLOCK_MS: Final = 5_000
DELIVERY_MS: Final = 30_000

encode = msgspec.json.Encoder().encode


def send(producer: Any, bootstrap: str, topic: str, labels: list[Label]) -> None:
    """Send labels and wait until every replica holds all of them; key is the transaction's id.

    Raises BrokerUnavailable when one was not acknowledged in time; some may be written then.
    """
    with reaching(bootstrap):
        sent = [producer.send(topic, key=label.transaction_id.encode(), value=encode(label)) for label in labels]
        producer.flush(timeout=DELIVERY_MS / 1000)
        for acknowledgement in sent:
            acknowledgement.get(timeout=1)


class Outbox:
    """The way from the verdicts table to the labels topic; its producer is made when there is something to send."""

    def __init__(self, engine: sa.Engine, bootstrap: str, topic: str, now: Callable[[], int]) -> None:
        self._engine = engine
        self._bootstrap = bootstrap
        self._topic = topic
        self._now = now
        self._producer: Any = None

    def publish(self) -> int:
        """Publish every verdict that waits; how many. Raises BrokerUnavailable and StoreUnavailable."""
        published = 0
        while True:
            with transaction(self._engine) as session:
                labels = [label_of(verdict) for verdict in waiting_verdicts(session)]
            if not labels:
                return published
            try:
                send(self._connected(), self._bootstrap, self._topic, labels)
            except BaseException:
                # An idempotent producer that gave up on one record takes no more: the next attempt gets a new one.
                self.close()
                raise
            with transaction(self._engine) as session:
                mark_published(session, [label.label_id for label in labels], self._now())
            published += len(labels)
            log.info("verdicts published", count=len(labels))

    def _connected(self) -> Any:
        if self._producer is None:
            with reaching(self._bootstrap):
                self._producer = KafkaProducer(
                    **CLIENT,
                    bootstrap_servers=self._bootstrap.split(","),
                    enable_idempotence=True,
                    acks="all",
                    max_block_ms=BLOCK_MS,
                    delivery_timeout_ms=DELIVERY_MS,
                    request_timeout_ms=BLOCK_MS,
                )
        return self._producer

    def close(self) -> None:
        """Let the producer go; what it had not been told of as acknowledged waits in SQL."""
        if self._producer is not None:
            self._producer.close(timeout=0)
            self._producer = None
