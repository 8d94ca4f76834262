"""Layer 2 for one table of the declaration: the remembered past of its keys, as arrays that the kernel works on.

`Past` knows nothing of ids: keys are slots, dense numbers that the caller hands out. Everything it returns is int64,
and depends on the arrival order of the rows of each key alone, so that any split of a stream by key or into batches
gives the same numbers.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features import kernel
from features.declaration import DECLARATION
from features.grammar import ABSENT, Declaration

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_KINDS: Final = {
    "count": kernel.COUNT, "sum": kernel.SUM, "maximum": kernel.MAXIMUM, "distinct": kernel.DISTINCT,
    "ever": kernel.EVER, "seconds_since": kernel.SECONDS_SINCE, "latitude_e6": kernel.LATITUDE,
    "longitude_e6": kernel.LONGITUDE, "seconds_since_place": kernel.SECONDS_SINCE_PLACE,
    "unusual": kernel.UNUSUAL, "squares": kernel.SQUARES, "seconds_since_first": kernel.SECONDS_SINCE_FIRST,
    "fraud_run": kernel.FRAUD_RUN, "seconds_since_fraud_run": kernel.SECONDS_SINCE_FRAUD_RUN,
    "fraud_run_last": kernel.FRAUD_RUN_LAST, "fraud_run_minimum": kernel.FRAUD_RUN_MINIMUM,
}  # fmt: skip

_PER_KEY: Final[dict[str, tuple[Any, int]]] = {
    "offset": (np.int64, -1), "head": (np.int32, 0), "length": (np.int32, 0), "size": (np.int8, 0),
    "newest": (np.int64, kernel.NO_TIME), "ever": (np.int32, 0), "base": (np.int64, 0),
    "latitude": (np.int32, ABSENT), "longitude": (np.int32, ABSENT), "place_time": (np.int64, kernel.NO_TIME),
}  # fmt: skip

_ARENA: Final[dict[str, Any]] = {
    "time": np.int64, "total": np.int64, "other": np.int32, "odd": np.int8, "squares": np.int64,
    "fraud": np.int8,
}  # fmt: skip
_PLACE: Final = ("latitude", "longitude", "place_time")


class Past:
    """The past of all keys of one table.

    Attributes are arrays: one element a key (`offset`, `length`, `newest`, ...), one an entry (`entries`: `time`,
    `total`, `other`, `odd`, `squares`, `fraud`; those of the last four that no measure needs are empty), one a ring
    size (`free`), and `used`, how much of the arena was handed out.
    """

    def __init__(self, table_name: str, declaration: Declaration = DECLARATION) -> None:
        self.table = declaration.table(table_name)
        self.windows = np.array(declaration.windows_us(table_name), np.int64)
        measures = declaration.measures_of(table_name)
        self.kinds = np.array([_KINDS[each.kind] for each in measures], np.int64)
        self.window_of = np.array(
            [int(np.searchsorted(self.windows, each.window_us)) if each.window else -1 for each in measures], np.int64
        )
        self.usual = int(np.searchsorted(self.windows, self.table.usual_us)) if self.table.usual_us else -1
        self.horizon = declaration.horizon_us(table_name)
        self._kept = ["time", "total"]
        self._kept += ["other"] if self.table.distinct is not None else []
        self._kept += ["odd"] if self.table.usual_us else []
        self._kept += ["squares"] if any(each.kind == "squares" for each in measures) else []
        self._kept += ["fraud"] if self.table.is_marked else []
        self.keys = 0
        self._columns: dict[str, npt.NDArray[Any]] = {name: np.empty(0, dtype) for name, (dtype, _) in _PER_KEY.items()}
        self.entries: dict[str, npt.NDArray[Any]] = {name: np.empty(0, dtype) for name, dtype in _ARENA.items()}
        self.free = np.full(40, -1, np.int64)
        self.used = np.zeros(1, np.int64)
        self._seen = np.zeros(1 if self.table.distinct is None else 0, np.int64)
        self._scan = np.zeros(1, np.int64)

    def advance(
        self,
        slots: Integers,
        times: Integers,
        amounts: Integers,
        others: Integers,
        latitudes: Integers,
        longitudes: Integers,
        reads: Flags,
        writes: Flags,
        marks: Flags,
    ) -> Integers:
        """Take n rows in arrival order; each reads its key's past, then joins it, or marks an entry of it as fraud.

        slots: int64 [n], dense key numbers, -1 where the row has no such key; times: int64 [n], microseconds;
        amounts: int64 [n], minor units; others: int64 [n], slots of the entity that `distinct` counts;
        latitudes, longitudes: int64 [n], degrees × 10⁶ or ABSENT; reads, writes, marks: bool [n], where a row that
        marks does not write.
        Returns int64 [n, measures of the table], 0 in rows that do not read.
        """
        self._reserve(int(slots.max(initial=-1)) + 1)
        if self.table.distinct is not None and (most := int(others.max(initial=-1)) + 1) > self._seen.shape[0]:
            self._seen = _grown(self._seen, most, 0)
        out = np.zeros((slots.shape[0], self.kinds.shape[0]), np.int64)
        taken = 0
        while True:
            taken = kernel.advance(
                taken, slots, times, amounts, others, latitudes, longitudes, reads, writes, marks,
                self.windows, self.kinds, self.window_of, self.usual, self.table.square_most, self.table.bound,
                self.horizon, ABSENT, *self._columns.values(), *self.entries.values(),
                self.free, self.used, self._seen, self._scan, out,
            )  # fmt: skip
            if taken == slots.shape[0]:
                return out
            self._grow_arena()

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All state, cut to what is in use: for a snapshot. The arrays are copies."""
        used = int(self.used[0])
        return {
            **{name: column[: self.keys].copy() for name, column in self._columns.items()},
            **{name: self.entries[name][:used].copy() for name in ("other", *self._kept)},
            "free": self.free.copy(),
        }

    def remembered(self) -> dict[str, npt.NDArray[Any]]:
        """What the state means, whatever its layout: each key's facts, and all entries key after key, oldest first.

        `length` tells the keys' entries apart. Where a ring lies in the arena, which places are free and from what the
        running sums began is left out: it depends on how a stream was cut, and changes no answer.
        """
        used = slice(self.keys)
        columns = {name: column[used] for name, column in self._columns.items()}
        length = columns["length"].astype(np.int64)
        ends = np.cumsum(length)
        key = np.repeat(np.arange(self.keys), length)
        nth = np.arange(key.shape[0]) - np.repeat(ends - length, length)
        mask = (np.int64(1) << columns["size"].astype(np.int64)) - 1
        at = columns["offset"][key] + ((columns["head"][key] + nth) & mask[key])
        total = self.entries["total"][at]
        before = np.where(nth > 0, np.roll(total, 1), columns["base"][key])
        found = {name: columns[name].copy() for name in ("length", "newest", "ever", *_PLACE)}
        found |= {"time": self.entries["time"][at], "amount": total - before}
        return found | {name: self.entries[name][at] for name in ("other", "odd", "fraud") if name in self._kept}

    @classmethod
    def from_arrays(
        cls, table_name: str, arrays: dict[str, npt.NDArray[Any]], declaration: Declaration = DECLARATION
    ) -> "Past":
        """The state that `arrays` returned."""
        past = cls(table_name, declaration)
        past.keys = arrays["offset"].shape[0]
        past._columns = {name: arrays[name].astype(dtype) for name, (dtype, _) in _PER_KEY.items()}
        past.entries |= {name: arrays[name].astype(_ARENA[name]) for name in past._kept}
        past.free = arrays["free"]
        past.used[0] = past.entries["time"].shape[0]
        # Every other entity that an entry names needs its place in the scratch, also when no new row names it.
        past._seen = _grown(past._seen, int(past.entries["other"].max(initial=-1)) + 1, 0)
        return past

    @property
    def memory_bytes(self) -> int:
        """Bytes of all arrays of state."""
        return sum(each.nbytes for each in (*self._columns.values(), *self.entries.values()))

    def _reserve(self, keys: int) -> None:
        if keys > self._columns["offset"].shape[0]:
            for name, (_, empty) in _PER_KEY.items():
                self._columns[name] = _grown(self._columns[name], keys, empty)
        self.keys = max(self.keys, keys)

    def _grow_arena(self) -> None:
        wanted = int(self.used[0]) + self.table.bound
        self.entries |= {name: _grown(self.entries[name], wanted, 0) for name in self._kept}


def _grown(array: npt.NDArray[Any], least: int, fill: int) -> npt.NDArray[Any]:
    """A copy with room for `least` elements or half as many again, whichever is more."""
    grown = np.full(max(least, array.shape[0] * 3 // 2, 64), fill, array.dtype)
    grown[: array.shape[0]] = array
    return grown
