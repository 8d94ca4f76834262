"""A message's bytes where the broker cannot give them, and what of any bytes a dead letter keeps.

A batch of records whose checksum is wrong, or that no codec here can decompress, holds messages that nobody can read.
They are messages all the same: each offset gets one answer in the journal. So a reader of Kafka gives `Damaged` in
their place, which is what is left of them: the bytes of their batch, and why it cannot be read.
"""

import hashlib
from typing import Final

from plumbline.errors import UnreadableMessage

RAW_MAX_BYTES: Final = 4096
"""Bytes of a message, or of a damaged batch, that a dead letter keeps; every valid transaction fits whole."""


class Damaged(bytes):
    """The bytes of a batch that cannot be read, in the place of each of its messages; `error` says why."""

    error: UnreadableMessage

    def __new__(cls, batch: bytes, error: UnreadableMessage) -> "Damaged":
        made = super().__new__(cls, batch)
        made.error = error
        return made


def readable(raw: bytes) -> bytes:
    """The bytes, unless they are none of a message's own. Raises UnreadableMessage."""
    if isinstance(raw, Damaged):
        raise raw.error
    return raw


def start_of(raw: bytes) -> bytes:
    """The first 4,096 bytes."""
    return bytes(raw[:RAW_MAX_BYTES])


def digest_of(raw: bytes) -> str:
    """SHA-256 of all bytes, in hexadecimal: what was cut off can be compared with what the sender holds."""
    return hashlib.sha256(raw).hexdigest()
