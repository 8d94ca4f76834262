"""Simulated transactions as numbers, before they become text: one array a column, all of one length."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

POS, ECOM, ATM, TRANSFER = range(4)
CHANNELS: Final = ("pos", "ecom", "atm", "transfer")
GENUINE: Final = 0
NEVER: Final = -1


@dataclass(frozen=True, slots=True)
class Batch:
    """time_us: int64, since 1970 UTC; account, payee: int32 indices into the world's tables; device: int64 number, -1
    for none; amount_minor: int64; channel: int8, index into CHANNELS; pattern: int8, 0 is genuine; known_at: int64,
    when a fraud was reported, -1 for never.
    """

    time_us: np.ndarray
    account: np.ndarray
    payee: np.ndarray
    device: np.ndarray
    amount_minor: np.ndarray
    channel: np.ndarray
    pattern: np.ndarray
    known_at: np.ndarray

    def __len__(self) -> int:
        return len(self.time_us)

    def take(self, rows: np.ndarray) -> "Batch":
        """The given rows: a bool mask, or indices."""
        return Batch(*(getattr(self, field.name)[rows] for field in fields(self)))


_TYPES: Final = (np.int64, np.int32, np.int32, np.int64, np.int64, np.int8, np.int8, np.int64)


def genuine(
    time_us: np.ndarray,
    account: np.ndarray,
    payee: np.ndarray,
    device: np.ndarray,
    amount_minor: np.ndarray,
    channel: np.ndarray | int,
) -> Batch:
    """A Batch of transactions that no fraud touched."""
    return of(time_us, account, payee, device, amount_minor, channel, GENUINE, NEVER)


def of(*columns: np.ndarray | int) -> Batch:
    """A Batch of columns in its order; a number stands for a column that holds it throughout."""
    count = next(len(column) for column in columns if isinstance(column, np.ndarray))
    return Batch(
        *(
            column.astype(kind, copy=False) if isinstance(column, np.ndarray) else np.full(count, column, kind)
            for column, kind in zip(columns, _TYPES, strict=True)
        )
    )


def joined(batches: Sequence[Batch]) -> Batch:
    """All rows of several batches, one after the other."""
    return Batch(*(np.concatenate([getattr(each, field.name) for each in batches]) for field in fields(Batch)))
