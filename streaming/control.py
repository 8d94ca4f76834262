"""Publishing a policy: a message on the compacted `control` topic, which the scorer journals and obeys from then on."""

import msgspec

from plumbline.names import Topic
from plumbline.policy import Policy
from streaming.kafka import close_producer, idempotent_producer, reaching


def publish_policy(bootstrap: str, prefix: str, policy: Policy) -> int:
    """Send a policy to the scorer; returns its offset on the control topic. Raises BrokerUnavailable."""
    producer = idempotent_producer(bootstrap)
    try:
        with reaching(bootstrap):
            sent = producer.send(prefix + Topic.CONTROL.value, msgspec.json.encode(policy), key=b"policy", partition=0)
            offset: int = sent.get(timeout=10).offset
            return offset
    finally:
        close_producer(producer, 1.0)
