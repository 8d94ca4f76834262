"""A scorer's compiled code is loaded, or compiled, before it stands by: on a new machine that takes seconds.

Without this the first payments after a start would wait for it. What is run here is thrown away.
"""

from typing import Final

from plumbline.decision import Source
from plumbline.label import Label
from plumbline.transaction import Transaction
from streaming.arrivals import arrivals
from streaming.known import Known
from streaming.state import State

PAYMENTS: Final = 1200
REMEMBERED: Final = 1100
"""More than the smallest tables hold, so that they grow, and fewer than there are, so that some are forgotten."""


def warm_up() -> None:
    """Take made-up payments, and a label of one, into a history that is thrown away."""
    state = State(Known(REMEMBERED))
    paid = [
        Transaction(
            transaction_id=f"t{n}", occurred_at=n, account_id="a", merchant_id=f"m{n}", amount_minor=1,
            currency="EUR", channel="pos", mcc="5411", country="DE",
        )
        for n in range(PAYMENTS)
    ]  # fmt: skip
    state.admit(paid)
    told = Label(label_id="l", transaction_id=paid[-1].transaction_id, verdict="fraud", source="analyst", known_at=1)
    state.advance(arrivals([*paid, state.label(told, Source("", 0, 0, 0), 1)]))
