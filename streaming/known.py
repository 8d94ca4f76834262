"""The newest transactions the journal decided: to know a duplicate, and whom a label speaks of.

Ids are kept as 128-bit digests and bodies as 64-bit ones, some 60 bytes a transaction whatever its ids look like. When
the limit is reached the oldest is forgotten for each new one; what is forgotten is treated as never seen.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from plumbline.transaction import Transaction, encode

Integers = npt.NDArray[np.int64]

NEW, IDENTICAL, DIFFERENT = 0, 1, 2
"""What `admit` says of a transaction: not seen before, sent again, or sent again with another body."""

_COLUMNS: Final[dict[str, Any]] = {
    "high": np.uint64, "low": np.uint64, "body": np.uint64,
    "account": np.int32, "merchant": np.int32, "occurred_at": np.int64, "fraud": np.bool_,
}  # fmt: skip
_SMALLEST: Final = 1024


def id_digest(transaction_id: str) -> bytes:
    """16 bytes that stand for an id."""
    return blake2b(transaction_id.encode(), digest_size=16).digest()


def body_digest(transaction: Transaction) -> bytes:
    """8 bytes that stand for a whole transaction, as Plumbline itself would write it."""
    return blake2b(encode(transaction), digest_size=8).digest()


@njit(cache=True)
def _place(index: Any, high: Any, low: Any, wanted_high: Any, wanted_low: Any) -> int:
    """Where an id stands in the index, or the empty place where it belongs."""
    mask = index.shape[0] - 1
    at = np.int64(wanted_low & np.uint64(mask))
    while index[at] >= 0 and (low[index[at]] != wanted_low or high[index[at]] != wanted_high):
        at = (at + 1) & mask
    return int(at)


@njit(cache=True)
def _forget(index: Any, high: Any, low: Any, row: int) -> None:
    """Take a row out of the index, and close the gap so that every other id is still found."""
    mask = index.shape[0] - 1
    gap = _place(index, high, low, high[row], low[row])
    at = gap
    while True:
        at = (at + 1) & mask
        if index[at] < 0:
            break
        home = np.int64(low[index[at]] & np.uint64(mask))
        if ((at - home) & mask) >= ((at - gap) & mask):
            index[gap] = index[at]
            gap = at
    index[gap] = -1


@njit(cache=True)
def _admit(
    index: Any, high: Any, low: Any, body: Any, fraud: Any, count: int, wanted: Any, status: Any, rows: Any
) -> int:
    capacity = high.shape[0]
    for i in range(wanted.shape[0]):
        at = _place(index, high, low, wanted[i, 0], wanted[i, 1])
        if index[at] >= 0:
            rows[i] = index[at]
            status[i] = 1 if body[rows[i]] == wanted[i, 2] else 2
            continue
        row = count % capacity
        if count >= capacity:
            _forget(index, high, low, row)
            at = _place(index, high, low, wanted[i, 0], wanted[i, 1])
        high[row] = wanted[i, 0]
        low[row] = wanted[i, 1]
        body[row] = wanted[i, 2]
        fraud[row] = False
        index[at] = row
        rows[i] = row
        status[i] = 0
        count += 1
    return count


@njit(cache=True)
def _fill(index: Any, high: Any, low: Any, used: int) -> None:
    for row in range(used):
        index[_place(index, high, low, high[row], low[row])] = row


class Known:
    """At most `limit` transactions, the newest; rows are numbers that stay valid until the transaction is forgotten."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._count = 0
        self._columns = {name: np.zeros(min(_SMALLEST, limit), dtype) for name, dtype in _COLUMNS.items()}
        self._index = _empty_index(min(_SMALLEST, limit))

    def __len__(self) -> int:
        return min(self._count, self.limit)

    def admit(self, transactions: Sequence[Transaction]) -> tuple[npt.NDArray[np.int8], Integers]:
        """Remember n transactions, in order; those seen before stay as they were.

        Returns status int8 [n] (NEW, IDENTICAL or DIFFERENT) and rows int64 [n].
        """
        n = len(transactions)
        text = b"".join(id_digest(each.transaction_id) + body_digest(each) for each in transactions)
        wanted = np.frombuffer(text, np.uint64).reshape(n, 3)
        while self._capacity < min(self._count + n, self.limit):
            self._grow()
        status, rows = np.empty(n, np.int8), np.empty(n, np.int64)
        columns = self._columns
        self._count = _admit(
            self._index, columns["high"], columns["low"], columns["body"], columns["fraud"], self._count,
            wanted, status, rows,
        )  # fmt: skip
        return status, rows

    def note(self, rows: Integers, accounts: Integers, merchants: Integers, occurred_at: Integers) -> None:
        """Note who paid whom and when: rows, account slots, merchant slots and microseconds, int64 [n] each."""
        self._columns["account"][rows] = accounts
        self._columns["merchant"][rows] = merchants
        self._columns["occurred_at"][rows] = occurred_at

    def find(self, transaction_id: str) -> int:
        """The row of a transaction, or -1."""
        wanted = np.frombuffer(id_digest(transaction_id), np.uint64)
        return int(self._index[_place(self._index, self._columns["high"], self._columns["low"], wanted[0], wanted[1])])

    def parties(self, row: int) -> tuple[int, int]:
        """Account slot and merchant slot of a row."""
        return int(self._columns["account"][row]), int(self._columns["merchant"][row])

    def occurred_at(self, row: int) -> int:
        """When the transaction of a row was, microseconds."""
        return int(self._columns["occurred_at"][row])

    def is_fraud(self, row: int) -> bool:
        """Whether a fraud label has entered history for this row."""
        return bool(self._columns["fraud"][row])

    def mark_fraud(self, row: int) -> None:
        """Note that a fraud label has entered history for this row."""
        self._columns["fraud"][row] = True

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All state, for a snapshot; copies."""
        used = len(self)
        return {name: column[:used].copy() for name, column in self._columns.items()} | {
            "count": np.array([self._count], np.int64)
        }

    def remembered(self) -> dict[str, npt.NDArray[Any]]:
        """The columns, oldest transaction first, wherever in the ring it lies."""
        oldest = self._count % self.limit if self._count > self.limit else 0
        return {name: np.roll(column[: len(self)], -oldest) for name, column in self._columns.items()}

    @classmethod
    def from_arrays(cls, limit: int, arrays: dict[str, npt.NDArray[Any]]) -> "Known":
        """The state that `arrays` returned; when the limit shrank, the newest are kept."""
        known = cls(limit)
        count, used = int(arrays["count"][0]), arrays["high"].shape[0]
        oldest_first = np.roll(np.arange(used), -(count % used)) if count > used else np.arange(used)
        kept = oldest_first[-limit:]
        known._columns = {name: arrays[name][kept].astype(dtype) for name, dtype in _COLUMNS.items()}
        known._count = kept.shape[0]
        known._index = _empty_index(max(kept.shape[0], 1))
        _fill(known._index, known._columns["high"], known._columns["low"], known._count)
        return known

    def of_limit(self, limit: int) -> "Known":
        """The same memory under another limit; when that is smaller, the newest are kept."""
        if self._count <= self.limit <= limit:  # the ring has not turned yet, and goes on growing
            self.limit = limit
            return self
        return Known.from_arrays(limit, self.arrays())

    def oldest_at(self) -> int | None:
        """When the transaction that was remembered first was, microseconds; None where none is remembered."""
        if not self._count:
            return None
        return self.occurred_at(self._count % self.limit if self._count > self.limit else 0)

    def covers_since(self) -> int | None:
        """As `oldest_at`, but None where there is room for more, and so nothing was forgotten."""
        return self.oldest_at() if self._count >= self.limit else None

    @property
    def memory_bytes(self) -> int:
        """Bytes of all arrays."""
        return self._index.nbytes + sum(column.nbytes for column in self._columns.values())

    @property
    def _capacity(self) -> int:
        return len(self._columns["high"])

    def _grow(self) -> None:
        capacity = min(max(self._capacity * 2, _SMALLEST), self.limit)
        for name, column in self._columns.items():
            self._columns[name] = np.concatenate([column, np.zeros(capacity - column.shape[0], column.dtype)])
        self._index = _empty_index(capacity)
        _fill(self._index, self._columns["high"], self._columns["low"], self._count)


def _empty_index(capacity: int) -> Integers:
    return np.full(1 << (2 * capacity - 1).bit_length(), -1, np.int64)
