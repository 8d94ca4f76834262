"""The rules of a Transaction, for a whole column at once.

`plumbline.transaction` owns the rules; here they are only found broken faster. Whatever row is found is given to that
parser, so that an import refuses with the same words as the stream.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, get_args

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plumbline.codes import Channel, Country, Currency
from plumbline.errors import InvalidTransaction
from plumbline.transaction import AHEAD_MAX_US, AMOUNT_MAX_MINOR, Transaction, parse

_ID: Final = r"\A[!-~]{1,64}\z"
_TEXT_RULES: Final = {
    "transaction_id": _ID,
    "account_id": _ID,
    "merchant_id": _ID,
    "device_id": r"\A[!-~]{0,64}\z",
    "mcc": r"\A[0-9]{4}\z",
}
_SETS: Final = {"currency": get_args(Currency), "channel": get_args(Channel), "country": get_args(Country)}
_TIME_MAX_US: Final = 2**53 - 1
_TEXT_SHOWN: Final = 200
"""Characters, more than any field may have."""


def broken_rows(table: pa.RecordBatch, now_us: int) -> np.ndarray:
    """Rows that are no Transaction: ascending int64.

    table: the columns of TRANSACTION_SCHEMA without nulls but in the places; now_us: our clock, microseconds.
    """
    good = np.ones(table.num_rows, bool)
    for name, pattern in _TEXT_RULES.items():
        good &= _each_distinct(table.column(name), partial(pc.match_substring_regex, pattern=pattern))
    for name, codes in _SETS.items():
        good &= _each_distinct(table.column(name), partial(pc.is_in, value_set=pa.array(codes, pa.string())))
    time, amount = table.column("occurred_at").to_numpy(), table.column("amount_minor").to_numpy()
    good &= (time >= 0) & (time <= min(_TIME_MAX_US, now_us + AHEAD_MAX_US))
    good &= (amount >= 0) & (amount <= AMOUNT_MAX_MINOR)
    good &= _within(table.column("latitude_e6"), 90_000_000) & _within(table.column("longitude_e6"), 180_000_000)
    north, east = table.column("latitude_e6"), table.column("longitude_e6")
    good &= pc.equal(pc.is_null(north), pc.is_null(east)).to_numpy(zero_copy_only=False)
    return np.flatnonzero(~good)


def why_broken(table: pa.RecordBatch, row: int, now_us: int) -> InvalidTransaction | None:
    """What the parser of transactions says of one row; None when it accepts it."""
    values = {name: table.column(name)[row].as_py() for name in Transaction.__struct_fields__}
    for name, value in values.items():
        if isinstance(value, str):  # or a long text would be refused as a message that is too long, without its field
            values[name] = value[:_TEXT_SHOWN]
    try:
        parse(msgspec.json.encode(values), now_us)
    except InvalidTransaction as error:
        return error
    return None


def _each_distinct(column: pa.Array, rule: Callable[[pa.Array], pa.Array]) -> np.ndarray:
    """bool [n]: does the rule hold; asked once for each distinct value where values repeat."""
    coded = pc.dictionary_encode(column)
    held = np.asarray(rule(coded.dictionary).to_numpy(zero_copy_only=False), bool)
    return np.asarray(held[coded.indices.to_numpy()])


def _within(column: pa.Array, limit: int) -> np.ndarray:
    held = pc.and_(pc.greater_equal(column, -limit), pc.less_equal(column, limit))
    return np.asarray(pc.fill_null(held, True).to_numpy(zero_copy_only=False), bool)
