"""A record of the journal as it was committed, with the message that it answers, byte for byte.

It is what an audit starts from, whether it comes from a broker or from a kept journal's files.
"""

from dataclasses import dataclass
from typing import Literal

MessageState = Literal["here", "gone", "never", "none"]
"""`here`: its bytes are known; `gone`: nobody keeps them any longer, or the broker holds them damaged; `never`: its
topic holds its neighbours and not it; `none`: the entry answers no message (the policy of a first start)."""


@dataclass(frozen=True, slots=True)
class Record:
    """One journal record, or, with no value, a message that was passed over: those after it were answered, it was not.

    sequence: its offset in the journal; of a message passed over, that of the next entry from its partition.
    appended_at_ms: the broker's time of the record, or of the message passed over, milliseconds since 1970 UTC.
    topic, partition, offset: of the message ("", 0 and -1 for none).
    """

    sequence: int
    appended_at_ms: int
    value: bytes | None
    topic: str = ""
    partition: int = 0
    offset: int = -1
    message: bytes | None = None
    state: MessageState = "none"
