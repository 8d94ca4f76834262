"""Transactions go to Kafka as a platform's would: keyed by account, acknowledged by every replica.

A producer that could not deliver is replaced by a thread of its own, so that no caller waits for a broker that is away:
meanwhile sending fails at once.
"""

import threading
from collections.abc import Callable
from typing import Any, Final

import structlog
from kafka import KafkaProducer
from kafka.errors import KafkaError

from app.journal import CLIENT, reaching
from plumbline.errors import BrokerUnavailable, NotTaken, PlumblineError

log = structlog.get_logger()

BLOCK_MS: Final = 1_000
RETRY_SECONDS: Final = 0.5

Taken = Callable[[int, int], None]
"""Told the partition and offset at which Kafka holds a message."""


class Sending:
    """A producer for one topic that is there whenever the broker is."""

    def __init__(self, bootstrap: str, topic: str, delivery_ms: int) -> None:
        """delivery_ms: after so long without an acknowledgement a message is given up."""
        self._bootstrap = bootstrap
        self._topic = topic
        self._delivery_ms = delivery_ms
        self._producer: Any = None
        self._wanted = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._keep, name="producer", daemon=True)

    @property
    def ready(self) -> bool:
        """Whether there is a producer that delivered whatever it was given so far."""
        return self._producer is not None

    def start(self) -> None:
        """Begin to look for the broker."""
        self._wanted.set()
        self._thread.start()

    def send(self, key: bytes, value: bytes, taken: Taken, failed: Callable[[PlumblineError], None]) -> None:
        """Hand over a message; one of the two is called, from another thread, when its fate is known.

        Raises NotTaken when Kafka is known to be away; then neither is called.
        """
        producer = self._producer
        if producer is None:
            raise NotTaken(f"Kafka does not answer at {self._bootstrap}: nothing was written, try again in a moment")

        def gave_up(error: Exception) -> None:
            self._replace(producer, error)
            failed(NotTaken(f"Kafka did not take the transaction ({error}): send it again under the same id"))

        try:
            future = producer.send(self._topic, value, key=key)
        except KafkaError as error:
            self._replace(producer, error)
            raise NotTaken(f"Kafka did not take the transaction ({error}): nothing was written, try again") from error
        future.add_callback(lambda written: taken(written.partition, written.offset))
        future.add_errback(gave_up)

    def close(self) -> None:
        """Let the producer go, after a moment for what was handed over."""
        self._stopped = True
        self._wanted.set()
        self._thread.join()
        if self._producer is not None:
            _close(self._producer, 1.0)

    def _replace(self, producer: Any, error: Exception) -> None:
        # An idempotent producer that gave up on one record takes no more.
        if self._producer is producer:
            log.warning("transactions could not be delivered", error=str(error))
            self._producer = None
            self._wanted.set()

    def _keep(self) -> None:
        former: Any = None
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if former is not None:
                _close(former, 0)
                former = None
            while not self._stopped and self._producer is None:
                try:
                    former = self._connected()
                except BrokerUnavailable as error:
                    log.warning("no producer", error=str(error))
                    self._wanted.wait(RETRY_SECONDS)
                except Exception:
                    # A thread that ended would refuse every caller for good.
                    log.exception("no producer")
                    self._wanted.wait(RETRY_SECONDS)
                else:
                    self._producer = former
            if self._stopped:
                return

    def _connected(self) -> Any:
        with reaching(self._bootstrap):
            producer = KafkaProducer(
                **CLIENT,
                bootstrap_servers=self._bootstrap.split(","),
                enable_idempotence=True,
                acks="all",
                # A lone caller's transaction leaves at once; while one request is under way, the others' gather.
                linger_ms=0,
                max_in_flight_requests_per_connection=1,
                max_block_ms=BLOCK_MS,
                delivery_timeout_ms=self._delivery_ms,
                request_timeout_ms=max(self._delivery_ms // 2, 1),
            )
        try:
            with reaching(self._bootstrap):
                if not producer.partitions_for(self._topic):
                    raise BrokerUnavailable(f"no topic {self._topic}: create it with `plumbline topics`")
        except BaseException:
            _close(producer, 0)
            raise
        return producer


def _close(producer: Any, seconds: float) -> None:
    """What is not acknowledged is abandoned; its callers are told so."""
    try:
        producer.close(timeout=seconds)
    except KafkaError as error:
        log.warning("unacknowledged transactions are abandoned", error=str(error))
        producer._sender.force_close()
        producer._sender.join(1.0)
        producer.close(timeout=0)
