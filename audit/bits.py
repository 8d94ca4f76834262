"""Two values are the same when all their bits are; here they are told apart, shown, and their distance is measured."""

import struct
from typing import Any

import numpy as np
import numpy.typing as npt


def unequal(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where two arrays of one shape differ in any bit, so that -0.0 is not 0.0 and a NaN equals itself.

    Everywhere when their types differ.
    """
    if a.dtype != b.dtype:
        return np.ones(a.shape, np.bool_)
    unsigned = np.dtype(f"u{a.dtype.itemsize}")
    different: npt.NDArray[np.bool_] = np.ascontiguousarray(a).view(unsigned) != np.ascontiguousarray(b).view(unsigned)
    return different


def bits(value: Any) -> str:
    """The bits of an int64, float32 or float64 in hexadecimal, and the value as people read it.

    >>> bits(7)
    '0x0000000000000007 (7)'
    """
    if isinstance(value, np.floating):
        code = ">f" if value.dtype.itemsize == 4 else ">d"
        return f"0x{struct.pack(code, value).hex()} ({value})"
    return f"0x{struct.pack('>q', int(value)).hex()} ({value})"


def distance_ulps(a: float, b: float) -> int | None:
    """How many float32 lie between two float32 values, the second counted; None when one is no float32 number.

    >>> distance_ulps(1.0, 1.0), distance_ulps(1.0, float(np.nextafter(np.float32(1), np.float32(2))))
    (0, 1)
    """
    pair = np.array([a, b], np.float32)
    if not np.array_equal(pair.astype(np.float64), np.array([a, b], np.float64)):
        return None
    # Floats of one sign are ordered as their bits are; negative ones run the other way.
    places = [int(each) if each >= 0 else -(int(each) & 0x7FFFFFFF) for each in pair.view(np.int32)]
    return abs(places[0] - places[1])
