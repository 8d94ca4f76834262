"""Layer 2 for all tables at once: arrivals of transactions and fraud labels become history vectors, in arrival order.

The scorer, the backfill of an archive and the audit's single sweep all use `History`. The Beam pipeline reaches the
same numbers by another way, key by key.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from features.declaration import DECLARATION
from features.grammar import ABSENT, Declaration, Entity
from features.history import Flags, Integers, Past
from features.keys import Keys, Pairs


@dataclass(frozen=True, slots=True)
class Arrivals:
    """n transactions and fraud labels in arrival order, as columns.

    times: int64 [n], microseconds: a transaction's occurred_at, a label's known_at; amounts: int64 [n], minor units;
    latitudes, longitudes: int64 [n], degrees × 10⁶ or ABSENT; is_label: bool [n];
    occurred_at: int64 [n], of a label the time of the transaction that it speaks of.
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
    occurred_at: Integers

    def __len__(self) -> int:
        return len(self.times)

    def rows(self, which: slice) -> "Arrivals":
        """A range of rows."""
        return Arrivals(**{each.name: getattr(self, each.name)[which] for each in fields(self)})


_CHUNK_ROWS: Final = 65_536

Slots = dict[Entity, Integers]


class Entities:
    """The numbers by which accounts, merchants, devices and pairs are known: dense, in order of first appearance.

    They depend on the arrivals alone, so histories under several declarations share them.
    """

    def __init__(self) -> None:
        self.keys: dict[Literal["account", "merchant", "device"], Keys] = {
            "account": Keys(), "merchant": Keys(), "device": Keys()
        }  # fmt: skip
        self.pairs = Pairs()

    def slots(self, arrivals: Arrivals) -> Slots:
        """Slots int64 [n] by entity; what was not seen before gets the next free ones."""
        account = self.keys["account"].slots(arrivals.account_ids)
        merchant = self.keys["merchant"].slots(arrivals.merchant_ids)
        return {
            "account": account,
            "merchant": merchant,
            "device": self.keys["device"].slots(arrivals.device_ids),
            "account_merchant": self.pairs.slots(account, merchant, ~arrivals.is_label),
        }

    def same(self, other: "Entities") -> bool:
        """Whether both know the same entities by the same numbers."""
        if self is other:
            return True
        ours, theirs = self.arrays(), other.arrays()
        return all(np.array_equal(array, theirs[name]) for name, array in ours.items())

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All numbers as named arrays, for a snapshot; copies."""
        arrays = {
            f"keys.{name}.{part}": array for name, keys in self.keys.items() for part, array in keys.arrays().items()
        }
        return arrays | {f"pairs.{part}": array for part, array in self.pairs.arrays().items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[Any]]) -> "Entities":
        """The numbers that `arrays` returned."""
        entities = cls()
        entities.keys = {name: Keys.from_arrays(_under(arrays, f"keys.{name}.")) for name in entities.keys}
        entities.pairs = Pairs.from_arrays(_under(arrays, "pairs."))
        return entities


class History:
    """The past of every key of every table of one declaration."""

    def __init__(self, declaration: Declaration = DECLARATION, entities: Entities | None = None) -> None:
        self.declaration = declaration
        self.entities = Entities() if entities is None else entities
        self.tables = {each.name: Past(each.name, declaration) for each in declaration.tables}
        names = declaration.history_names
        self._columns = {
            each.name: [names.index(measure.name) for measure in declaration.measures_of(each.name)]
            for each in declaration.tables
        }

    def advance(self, arrivals: Arrivals) -> Integers:
        """Take n arrivals; returns int64 [n, measures] in the declaration's order, 0 in the rows of labels."""
        out = np.zeros((len(arrivals), len(self.declaration.history)), np.int64)
        for begin in range(0, len(arrivals), _CHUNK_ROWS):
            rows = slice(begin, begin + _CHUNK_ROWS)
            part = arrivals.rows(rows)
            out[rows] = self.take(part, self.entities.slots(part))
        return out

    def take(self, arrivals: Arrivals, slots: Slots) -> Integers:
        """`advance` for arrivals whose slots are known already."""
        out = np.zeros((len(arrivals), len(self.declaration.history)), np.int64)
        is_label = arrivals.is_label
        is_transaction = ~is_label
        for each in self.declaration.tables:
            out[:, self._columns[each.name]] = self.tables[each.name].advance(
                slots[each.entity],
                arrivals.occurred_at if each.is_marked else arrivals.times,
                arrivals.amounts,
                slots[each.distinct or "merchant"],
                arrivals.latitudes,
                arrivals.longitudes,
                reads=is_transaction,
                writes=is_label if each.stream == "fraud_labels" else is_transaction,
                marks=is_label if each.is_marked else np.zeros_like(is_label),
            )
        return out

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The tables as named arrays, for a snapshot; copies. The entities are the caller's to keep."""
        return {f"{name}.{part}": array for name, past in self.tables.items() for part, array in past.arrays().items()}

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, npt.NDArray[Any]], declaration: Declaration, entities: Entities
    ) -> "History":
        """The tables that `arrays` returned."""
        history = cls(declaration, entities)
        for name in history.tables:
            history.tables[name] = Past.from_arrays(name, _under(arrays, f"{name}."), declaration)
        return history


def _under(arrays: dict[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def places(values: Sequence[int | None]) -> Integers:
    """Coordinates as int64 [n] with ABSENT where there is none."""
    return np.array([ABSENT if value is None else value for value in values], np.int64)
