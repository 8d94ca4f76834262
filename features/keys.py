"""Ids become slots: dense numbers in order of first appearance, by which the kernel knows its keys."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

Integers = npt.NDArray[np.int64]

_NO_KEY: Final = -1
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, the multiplier of Fibonacci hashing


class Keys:
    """Ids (text) of one entity and their slots; the empty id is no key and has slot -1."""

    def __init__(self, ids: Sequence[str] = ()) -> None:
        self._slot_of: dict[str, int] = {key: slot for slot, key in enumerate(ids)}
        self._ids: list[str] = list(ids)

    def __len__(self) -> int:
        return len(self._ids)

    def slots(self, ids: Sequence[str]) -> Integers:
        """Slots int64 [n] of n ids; ids not seen before get the next free ones."""
        slot_of = self._slot_of
        found = [slot_of.get(key, _NO_KEY) for key in ids]
        if _NO_KEY in found:
            for row, key in enumerate(ids):
                if found[row] == _NO_KEY and key:
                    slot = slot_of.get(key)
                    if slot is None:
                        slot = slot_of[key] = len(self._ids)
                        self._ids.append(key)
                    found[row] = slot
        return np.array(found, np.int64)

    def id_of(self, slot: int) -> str:
        """The id that has this slot."""
        return self._ids[slot]

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The ids in slot order: UTF-8 text one after another, and where each ends."""
        encoded = [key.encode() for key in self._ids]
        ends = np.cumsum([len(key) for key in encoded], dtype=np.int64)
        return {"text": np.frombuffer(b"".join(encoded), np.uint8), "ends": ends}

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[Any]]) -> "Keys":
        """The keys that `arrays` returned."""
        text, begin, ids = arrays["text"].tobytes(), 0, []
        for end in arrays["ends"].tolist():
            ids.append(text[begin:end].decode())
            begin = end
        return cls(ids)


@njit(cache=True)
def _place(table: Any, key: int) -> int:
    """Where a key stands in an open-addressed table (2 columns: key, slot), or the empty place where it belongs."""
    mask = table.shape[0] - 1
    at = ((np.uint64(key) * _MIX) >> np.uint64(32)) & np.uint64(mask)
    while table[at, 1] >= 0 and table[at, 0] != key:
        at = (at + np.uint64(1)) & np.uint64(mask)
    return int(at)


@njit(cache=True)
def _pair_slots(table: Any, count: int, left: Any, right: Any, wanted: Any, out: Any) -> int:
    for row in range(left.shape[0]):
        out[row] = -1
        if wanted[row] and left[row] >= 0 and right[row] >= 0:
            key = (left[row] << 32) | right[row]
            at = _place(table, key)
            if table[at, 1] < 0:
                table[at, 0] = key
                table[at, 1] = count
                count += 1
            out[row] = table[at, 1]
    return count


@njit(cache=True)
def _fill(table: Any, keys: Any) -> None:
    for slot in range(keys.shape[0]):
        at = _place(table, keys[slot])
        table[at, 0] = keys[slot]
        table[at, 1] = slot


class Pairs:
    """Pairs of slots of two entities, and the slots of the pairs; 16 bytes a place, at most half of them taken."""

    def __init__(self) -> None:
        self._count = 0
        self._table = np.full((1024, 2), -1, np.int64)

    def __len__(self) -> int:
        return self._count

    @property
    def memory_bytes(self) -> int:
        """Bytes of the table."""
        return self._table.nbytes

    def slots(self, left: Integers, right: Integers, wanted: npt.NDArray[np.bool_]) -> Integers:
        """Slots int64 [n] of n pairs, -1 where not wanted or a part is no key; new pairs get the next free ones."""
        while (self._count + left.shape[0]) * 2 > self._table.shape[0]:
            keys = self.arrays()["keys"]
            self._table = np.full((self._table.shape[0] * 2, 2), -1, np.int64)
            _fill(self._table, keys)
        out = np.empty(left.shape[0], np.int64)
        self._count = _pair_slots(self._table, self._count, left, right, wanted, out)
        return out

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The pairs in slot order, each as left slot × 2^32 + right slot."""
        taken = self._table[self._table[:, 1] >= 0]
        keys = np.empty(self._count, np.int64)
        keys[taken[:, 1]] = taken[:, 0]
        return {"keys": keys}

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[Any]]) -> "Pairs":
        """The pairs that `arrays` returned."""
        pairs = cls()
        pairs._count = arrays["keys"].shape[0]
        while pairs._count * 2 >= pairs._table.shape[0]:
            pairs._table = np.full((pairs._table.shape[0] * 2, 2), -1, np.int64)
        _fill(pairs._table, arrays["keys"])
        return pairs
