"""Who leads: the scorer to which the group coordinator gave the lease topic's one partition."""

from threading import Event, Thread
from types import TracebackType
from typing import Final

import structlog
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from plumbline.errors import BrokerUnavailable
from plumbline.names import Topic
from streaming.kafka import member

log = structlog.get_logger()

SESSION_MS: Final = 3000
"""A leader that is silent for this long has lost the lease."""

POLL_MS: Final = 200
RETRY_SECONDS: Final = 0.2


class Lease(ConsumerRebalanceListener):
    """A scorer's claim to lead, kept up by a thread of its own, so that a long batch does not look like a death.

    The lease alone decides nothing: the journal's producer fences an older leader that has not noticed yet.
    """

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._bootstrap = bootstrap
        self._prefix = prefix
        self._held = Event()
        self._leaving = Event()
        self._thread = Thread(target=self._claim, name="lease", daemon=True)

    @property
    def held(self) -> bool:
        """Whether this scorer leads, as far as it has heard."""
        return self._held.is_set()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until this scorer leads; returns `held`."""
        return self._held.wait(timeout_seconds)

    def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        """Called by the library: this member was given these partitions, besides those it has."""
        if assigned:
            self._held.set()

    def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        """Called by the library: this member gives these partitions up."""
        if revoked:
            self._held.clear()

    def on_partitions_lost(self, lost: list[TopicPartition]) -> None:
        """Called by the library: the coordinator gave these partitions to another member meanwhile."""
        self._held.clear()

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the group at once, so that a standby need not wait for the silence to be noticed."""
        self._leaving.set()
        self._thread.join()

    def _claim(self) -> None:
        while not self._leaving.is_set():
            try:
                self._keep(
                    member(
                        self._bootstrap,
                        f"{self._prefix}plumbline-scorer",
                        [self._prefix + Topic.SCORER_LEASE.value],
                        self,
                        session_timeout_ms=SESSION_MS,
                    )
                )
            except (KafkaError, BrokerUnavailable) as error:
                log.warning("lease", error=f"{type(error).__name__}: {error}")
                self._leaving.wait(RETRY_SECONDS)
            finally:
                self._held.clear()

    def _keep(self, consumer: KafkaConsumer) -> None:
        try:
            while not self._leaving.is_set():
                consumer.poll(timeout_ms=POLL_MS)
        finally:
            consumer.close()
