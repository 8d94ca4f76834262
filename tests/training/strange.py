"""Rows by Hypothesis for the tests beside it: raw inputs of any kind at all, and lawful streams at their ends."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from features.declaration import HISTORY_NAMES
from features.grammar import ABSENT
from plumbline.transaction import AMOUNT_MAX_MINOR, Transaction

EXTREME = st.sampled_from(
    [
        0,
        1,
        -1,
        ABSENT,
        2**24 + 1,
        2**31,
        2**53 - 1,
        2**53,
        2**53 + 1,
        -(2**53) - 1,
        AMOUNT_MAX_MINOR,
        2**63 - 1,
        -(2**63),
    ]
)
INT64 = EXTREME | st.integers(-(2**63), 2**63 - 1)
TEXT = (
    st.sampled_from(
        [b"EUR", b"pos", b"ecom", b"5411", b"FR", b"", b"EUR\0", b"\xff\xfe", b'"\\\n', "不😀\u2028".encode()]
    )
    | st.binary(max_size=20)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(str.encode)
)
SCALARS = ("occurred_at", "amount_minor", "latitude_e6", "longitude_e6")
WORDS = ("currency", "channel", "mcc", "country")


@st.composite
def any_rows(draw):
    """Raw inputs of a few rows, of any integers and any texts at all."""
    n = draw(st.integers(1, 5))
    columns = {"history": draw(arrays(np.int64, (n, len(HISTORY_NAMES)), elements=INT64))}
    columns |= {name: draw(arrays(np.int64, n, elements=INT64)) for name in SCALARS}
    return columns | {name: np.array(draw(st.lists(TEXT, min_size=n, max_size=n)), object) for name in WORDS}


IDS = st.sampled_from(["a1", "a2", "never-seen", "~!"])


@st.composite
def transactions(draw):
    """A stream of a few lawful transactions, at the ends of what is lawful, places and devices absent or there."""
    place = st.none() | st.tuples(st.sampled_from([-90_000_000, 0, 90_000_000]), st.integers(-180_000_000, 180_000_000))
    times = st.sampled_from([0, 2**53 - 1]) | st.integers(0, 2**53 - 1)
    stream = []
    for number in range(draw(st.integers(1, 12))):
        latitude, longitude = draw(place) or (None, None)
        stream.append(
            Transaction(
                transaction_id=f"t{number}", occurred_at=draw(times), account_id=draw(IDS), merchant_id=draw(IDS),
                device_id=draw(IDS | st.just("")), latitude_e6=latitude, longitude_e6=longitude,
                amount_minor=draw(st.sampled_from([0, 1, AMOUNT_MAX_MINOR]) | st.integers(0, AMOUNT_MAX_MINOR)),
                currency=draw(st.sampled_from(["EUR", "XXX", "JPY"])), channel=draw(st.sampled_from(["pos", "ecom"])),
                mcc=draw(st.sampled_from(["0000", "5411", "9999"])), country=draw(st.sampled_from(["FR", "ZZ"])),
            )
        )  # fmt: skip
    return stream
