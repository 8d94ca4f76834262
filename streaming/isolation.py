"""One message that ends the scorer's own code must not hold up its partition.

An error that nobody expected, while a batch is processed, leaves a state that cannot be trusted: it is thrown away and
rebuilt from the journal. The messages of that batch are then taken one by one. The one that fails again, alone, is
rejected unread as `unprocessable`, and the log has the error. Before that a made-up payment is decided on an empty
state: where that fails too, no message is to blame, and the scorer ends with the error.
"""

from collections.abc import Callable, Sequence
from typing import Final

import structlog

from plumbline.decision import Source
from plumbline.policy import DEFAULT_POLICY
from plumbline.transaction import Transaction, encode
from streaming.batch import Message, Place, process
from streaming.known import Known
from streaming.model import Model
from streaming.state import State

log = structlog.get_logger()

UNPROCESSABLE_MAX: Final = 100
"""More of them than this, in one life of a process, are no bad luck: the scorer ends."""


class ProcessingFailed(Exception):
    """Processing these messages raised an error that nobody expected, which is this one's cause."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = tuple(places)
        super().__init__(f"{len(self.places)} messages from {self.places[0]} on could not be processed")


class Isolation:
    """What a scorer remembers of such errors from one start over to the next."""

    def __init__(self) -> None:
        self.suspected: set[Place] = set()
        self.unprocessable: set[Place] = set()

    def alone(self, places: Sequence[Place]) -> bool:
        """Whether these messages are to be taken one by one."""
        return not self.suspected.isdisjoint(places)

    def failed(self, failure: ProcessingFailed, is_sound: Callable[[], bool]) -> None:
        """Learn of an error; raises its cause where no message is to blame.

        is_sound: whether a made-up payment is decided as it should be.
        """
        cause = failure.__cause__
        if len(failure.places) == 1 and failure.places[0] in self.suspected:
            if cause is not None and (len(self.unprocessable) >= UNPROCESSABLE_MAX or not is_sound()):
                raise cause
            (place,) = failure.places
            self.unprocessable.add(place)
            log.error("unprocessable message", topic=place[0], partition=place[1], offset=place[2], exc_info=cause)
        else:
            self.suspected.update(failure.places)
            log.error(
                "processing failed; these messages are taken one by one", messages=len(failure.places), exc_info=cause
            )


def decides_made_up_payment(model: Model, now_us: int) -> bool:
    """Whether a payment that nobody sent is decided on an empty state."""
    made_up = Transaction(
        transaction_id="made-up", occurred_at=now_us, account_id="a", merchant_id="m", amount_minor=1,
        currency="EUR", channel="pos", mcc="5411", country="DE",
    )  # fmt: skip
    state = State(Known(1024))
    state.activate(DEFAULT_POLICY)
    try:
        message = Message(Source("", 0, 0, now_us // 1000), encode(made_up))
        return len(process(state, model, transaction=[message], now_us=now_us).entries) == 1
    except Exception:
        log.exception("a made-up payment cannot be decided either")
        return False
