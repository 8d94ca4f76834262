"""What a model is asked about: n transactions as columns, named and typed as the inputs of its signatures."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from plumbline.errors import Invalid

Int64 = npt.NDArray[np.int64]
Strings = Sequence[bytes] | npt.NDArray[np.object_] | npt.NDArray[np.bytes_]


@dataclass(frozen=True, slots=True)
class ModelColumns:
    """Inputs of every signature, first dimension n; history is int64 [n, H], the other numbers int64 [n].

    The four texts are n byte strings each (a list, or a numpy array of objects or of bytes). An absent place is
    `features.declaration.ABSENT` in both latitude_e6 and longitude_e6.
    Raises Invalid when a column's type or length differs.
    """

    history: Int64
    occurred_at: Int64
    amount_minor: Int64
    latitude_e6: Int64
    longitude_e6: Int64
    currency: Strings
    channel: Strings
    mcc: Strings
    country: Strings

    def __post_init__(self) -> None:
        for name in NUMBERS:
            column = getattr(self, name)
            rank = 2 if name == "history" else 1
            if column.dtype != np.int64 or column.ndim != rank or len(column) != len(self):
                found = f"{column.dtype} {list(column.shape)}"
                raise Invalid("model columns", name, found, f"int64 of rank {rank} with {len(self)} rows")
        for name in TEXTS:
            column = getattr(self, name)
            if len(column) != len(self):
                raise Invalid("model columns", name, f"{len(column)} rows", f"{len(self)} rows")

    def __len__(self) -> int:
        return len(self.history)

    def take(self, indices: npt.NDArray[np.intp]) -> "ModelColumns":
        """The rows at the given positions, in that order; indices: int [m] in [0, n)."""
        return ModelColumns(**{name: _taken(getattr(self, name), indices) for name in NAMES})


def _taken(column: Any, indices: npt.NDArray[np.intp]) -> Any:
    return column[indices] if isinstance(column, np.ndarray) else [column[index] for index in indices.tolist()]


NAMES: Final = tuple(field.name for field in fields(ModelColumns))
TEXTS: Final = ("currency", "channel", "mcc", "country")
NUMBERS: Final = tuple(name for name in NAMES if name not in TEXTS)
