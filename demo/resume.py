"""Where the demo's stream goes on: behind what Kafka already holds, however the demo ended."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import msgspec

from demo.prepare import Plan
from plumbline.names import Topic
from streaming.kafka import end_offsets, reader

LOOKED_AT: Final = 100
"""The newest offsets of each partition: some are not records, and somebody may have sent messages of their own."""

SIMULATED: Final = "s"
"""What the ids of simulated transactions begin with."""


class _Sent(msgspec.Struct):
    transaction_id: str
    occurred_at: int


def resume_us(bootstrap: str, plan: Plan) -> int:
    """Arrivals from this time on are to be sent, microseconds since 1970 UTC."""
    before = plan.live_us if plan.played_until_us is None else plan.played_until_us
    return max([before, *(sent_us(record.value) + 1 for record in newest(bootstrap, Topic.TRANSACTIONS))])


def sent_us(message: bytes) -> int:
    """When a message's simulated transaction arrived; 0 for anything else."""
    try:
        sent = msgspec.json.decode(message, type=_Sent)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return 0
    return sent.occurred_at if sent.transaction_id.startswith(SIMULATED) else 0


def newest(bootstrap: str, topic: Topic) -> Iterator[Any]:
    """Committed records among the newest hundred offsets of each partition."""
    ends = end_offsets(bootstrap, [topic.value])
    with closing(reader(bootstrap, list(ends))) as consumer:
        first = consumer.beginning_offsets(list(ends))
        for partition, end in ends.items():
            consumer.seek(partition, max(first[partition], end - LOOKED_AT))
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for records in consumer.poll(timeout_ms=200).values():
                yield from records
