"""Messages on the compacted `control` topic, which the scorer journals and obeys from then on."""

from typing import Final

import msgspec

from plumbline.assignment import Assignment
from plumbline.control import Control
from plumbline.names import Topic
from plumbline.policy import Policy
from streaming.kafka import close_producer, idempotent_producer, reaching

_KEYS: Final = {Policy: b"policy", Assignment: b"assignment"}
"""The newest message of each kind is kept."""


def publish(bootstrap: str, prefix: str, control: Control) -> int:
    """Send a policy or an assignment to the scorer; returns its offset there. Raises BrokerUnavailable."""
    producer = idempotent_producer(bootstrap)
    try:
        with reaching(bootstrap):
            value, key = msgspec.json.encode(control), _KEYS[type(control)]
            sent = producer.send(prefix + Topic.CONTROL.value, value, key=key, partition=0)
            offset: int = sent.get(timeout=10).offset
            return offset
    finally:
        close_producer(producer, 1.0)
