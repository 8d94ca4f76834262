"""Layer 2 for all tables at once: arrivals of transactions and fraud labels become history vectors, in arrival order.

The scorer, the backfill of an archive and the audit's single sweep all use `History`. The Beam pipeline reaches the
same numbers by another way, key by key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.declaration import ABSENT, HISTORY, HISTORY_NAMES, TABLES, measures_of
from features.history import Flags, Integers, Past
from features.keys import Keys, Pairs


@dataclass(frozen=True, slots=True)
class Arrivals:
    """n transactions and fraud labels in arrival order, as columns.

    times: int64 [n], microseconds: a transaction's occurred_at, a label's known_at; amounts: int64 [n], minor units;
    latitudes, longitudes: int64 [n], degrees × 10⁶ or ABSENT; is_label: bool [n].
    A label's row carries the account and merchant of the transaction it speaks of; its device is empty.
    """

    account_ids: Sequence[str]
    merchant_ids: Sequence[str]
    device_ids: Sequence[str]
    times: Integers
    amounts: Integers
    latitudes: Integers
    longitudes: Integers
    is_label: Flags

    def __len__(self) -> int:
        return len(self.times)


_COLUMNS: Final = {
    each.name: [HISTORY_NAMES.index(measure.name) for measure in measures_of(each.name)] for each in TABLES
}
_CHUNK_ROWS: Final = 65_536


class History:
    """The past of every key of every table, and the numbers by which the keys are known."""

    def __init__(self) -> None:
        self.keys = {"account": Keys(), "merchant": Keys(), "device": Keys()}
        self.pairs = Pairs()
        self.tables = {each.name: Past(each.name) for each in TABLES}

    def advance(self, arrivals: Arrivals) -> Integers:
        """Take n arrivals; returns int64 [n, len(HISTORY)] in the declaration's order, 0 in the rows of labels."""
        out = np.zeros((len(arrivals), len(HISTORY)), np.int64)
        for begin in range(0, len(arrivals), _CHUNK_ROWS):
            self._advance(arrivals, slice(begin, begin + _CHUNK_ROWS), out)
        return out

    def _advance(self, arrivals: Arrivals, rows: slice, out: Integers) -> None:
        slots = {
            "account": self.keys["account"].slots(arrivals.account_ids[rows]),
            "merchant": self.keys["merchant"].slots(arrivals.merchant_ids[rows]),
            "device": self.keys["device"].slots(arrivals.device_ids[rows]),
        }
        is_label = arrivals.is_label[rows]
        is_transaction = ~is_label
        slots["account_merchant"] = self.pairs.slots(slots["account"], slots["merchant"], is_transaction)
        for each in TABLES:
            out[rows, _COLUMNS[each.name]] = self.tables[each.name].advance(
                slots[each.entity],
                arrivals.times[rows],
                arrivals.amounts[rows],
                slots[each.distinct or "merchant"],
                arrivals.latitudes[rows],
                arrivals.longitudes[rows],
                reads=is_transaction,
                writes=is_label if each.stream == "fraud_labels" else is_transaction,
            )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All state as named arrays, for a snapshot; copies."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name, past in self.tables.items():
            arrays |= {f"{name}.{part}": array for part, array in past.arrays().items()}
        for name, keys in self.keys.items():
            arrays |= {f"keys.{name}.{part}": array for part, array in keys.arrays().items()}
        return arrays | {f"pairs.{part}": array for part, array in self.pairs.arrays().items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[Any]]) -> "History":
        """The state that `arrays` returned."""

        def under(prefix: str) -> dict[str, npt.NDArray[Any]]:
            return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

        history = cls()
        history.tables = {each.name: Past.from_arrays(each.name, under(f"{each.name}.")) for each in TABLES}
        history.keys = {name: Keys.from_arrays(under(f"keys.{name}.")) for name in history.keys}
        history.pairs = Pairs.from_arrays(under("pairs."))
        return history


def places(values: Sequence[int | None]) -> Integers:
    """Coordinates as int64 [n] with ABSENT where there is none."""
    return np.array([ABSENT if value is None else value for value in values], np.int64)
