"""The remembered transactions against a plain dictionary."""

from collections import OrderedDict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from plumbline.transaction import Transaction
from streaming.known import DIFFERENT, IDENTICAL, NEW, Known


def transaction(number, amount=1):
    return Transaction(
        transaction_id=f"t{number}", occurred_at=0, account_id="a", merchant_id="m", amount_minor=amount,
        currency="EUR", channel="pos", mcc="0000", country="ZZ",
    )  # fmt: skip


class Plain:
    """What Known means: the newest `limit` ids, the first body of each."""

    def __init__(self, limit):
        self.limit, self.bodies = limit, OrderedDict()

    def admit(self, each):
        if each.transaction_id in self.bodies:
            return IDENTICAL if self.bodies[each.transaction_id] == each else DIFFERENT
        if len(self.bodies) == self.limit:
            self.bodies.popitem(last=False)
        self.bodies[each.transaction_id] = each
        return NEW


streams = st.lists(st.lists(st.builds(transaction, st.integers(0, 60), st.integers(1, 2)), max_size=12), max_size=30)


@given(streams, st.sampled_from([8, 13, 64]), st.data())
def test_equals_a_plain_dictionary(batches, limit, data):
    known, plain = Known(limit), Plain(limit)
    restart_at = data.draw(st.integers(0, 30))
    for n, batch in enumerate(batches):
        if n == restart_at:
            known = Known.from_arrays(limit, known.arrays())
        for part in (batch[i : i + limit] for i in range(0, len(batch), limit)):
            status, _ = known.admit(part)
            assert status.tolist() == [plain.admit(each) for each in part]
        assert len(known) == len(plain.bodies)
        for number in range(61):
            assert (known.find(f"t{number}") >= 0) == (f"t{number}" in plain.bodies)


def test_parties_time_and_fraud_belong_to_their_transaction_until_it_is_forgotten():
    known = Known(4)
    _, rows = known.admit([transaction(n) for n in range(4)])
    known.note(rows, np.arange(4) * 10, np.arange(4) * 100, np.arange(4) * 1000)
    known.mark_fraud(known.find("t2"))
    assert known.parties(known.find("t3")) == (30, 300)
    assert known.occurred_at(known.find("t3")) == 3000
    assert [known.is_fraud(known.find(name)) for name in ("t1", "t2")] == [False, True]
    known.admit([transaction(n) for n in range(4, 8)])
    assert known.find("t2") == -1
    assert not any(known.is_fraud(known.find(f"t{n}")) for n in range(4, 8))


def test_a_smaller_limit_keeps_the_newest():
    known = Known(64)
    known.admit([transaction(n) for n in range(100)])
    smaller = Known.from_arrays(10, known.arrays())
    assert [n for n in range(100) if smaller.find(f"t{n}") >= 0] == list(range(90, 100))
