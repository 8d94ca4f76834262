"""Who leads: the scorer to which the group coordinator gave the lease topic's one partition."""

from types import TracebackType

from kafka import ConsumerRebalanceListener, TopicPartition

from plumbline.names import Topic
from streaming.kafka import member

SESSION_MS = 3000
"""A leader that is silent for this long has lost the lease."""


class Lease(ConsumerRebalanceListener):
    """A scorer's claim to lead; `held` says whether it does at present, as far as the last `renew` knows."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.held = False
        self._consumer = member(
            bootstrap,
            f"{prefix}plumbline-scorer",
            [prefix + Topic.SCORER_LEASE.value],
            self,
            session_timeout_ms=SESSION_MS,
        )

    def renew(self, timeout_ms: int = 0) -> bool:
        """Tell the coordinator that this scorer lives, and hear from it; returns `held`."""
        self._consumer.poll(timeout_ms=timeout_ms)
        return self.held

    def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        """Called by the library: this member now has these partitions."""
        self.held = self.held or bool(assigned)

    def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        """Called by the library: this member gives these partitions up."""
        self.held = self.held and not revoked

    def on_partitions_lost(self, lost: list[TopicPartition]) -> None:
        """Called by the library: the coordinator gave these partitions to another member meanwhile."""
        self.held = False

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the group at once, so that a standby need not wait for the silence to be noticed."""
        self._consumer.close()
