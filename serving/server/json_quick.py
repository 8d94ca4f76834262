"""Well-formed JSON lists as arrays, many values at a time; whatever is not plainly so is left to the careful reader.

`serving.server.json_request` looks at every value by itself and knows what to complain of, in thirty times the time.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.server.model import Slot
from serving.tensors import STRING


def array(value: Any, slot: Slot, shape: Sequence[int]) -> npt.NDArray[Any] | None:
    """The array of a value nested as its shape says; None where that takes a closer look."""
    flat = [value]
    for size in shape:
        if any(type(each) is not list or len(each) != size for each in flat):
            return None
        flat = list(chain.from_iterable(flat))
    values = _values(flat, slot)
    return None if values is None else values.reshape(tuple(shape))


def _values(flat: list[Any], slot: Slot) -> npt.NDArray[Any] | None:
    kinds = set(map(type, flat))
    if slot.number == STRING:
        if not kinds <= {str}:
            return None
        texts = np.empty(len(flat), object)
        texts[:] = [each.encode("utf-8", "surrogatepass") for each in flat]
        return texts
    kind = slot.dtype.kind
    if kind == "b":
        return np.array(flat, np.bool_) if kinds <= {bool} else None
    if kind == "f":
        return _floats(flat, slot.dtype) if kinds <= {float} else None
    if not kinds <= {int}:
        return None
    try:
        return np.array(flat, slot.dtype)
    except OverflowError:
        return None


def _floats(flat: list[float], dtype: np.dtype[Any]) -> npt.NDArray[Any] | None:
    """None where a finite value is out of the type's range."""
    values = np.array(flat, np.float64)
    if (np.abs(values[np.isfinite(values)]) > float(np.finfo(dtype).max)).any():
        return None
    return values.astype(dtype)
