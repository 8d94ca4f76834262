"""Tensors on the wire and arrays in memory.

Numbers travel as `tensor_content` (the array's own little-endian bytes) or in the field of their type, texts as
`string_val`. What comes in may use either form, as TensorFlow Serving's answers do.
"""

import math
import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from plumbline.errors import Invalid, Unready
from serving import wire_pb2 as wire

if sys.byteorder != "little":
    raise Unready("tensors are exchanged as little-endian bytes, and this machine is big-endian: run on another one")

STRING: Final = wire.DT_STRING

NUMERIC: Final[dict[wire.DataType, tuple[np.dtype[Any], str]]] = {
    wire.DT_FLOAT: (np.dtype(np.float32), "float_val"),
    wire.DT_DOUBLE: (np.dtype(np.float64), "double_val"),
    wire.DT_INT32: (np.dtype(np.int32), "int_val"),
    wire.DT_UINT8: (np.dtype(np.uint8), "int_val"),
    wire.DT_INT16: (np.dtype(np.int16), "int_val"),
    wire.DT_INT8: (np.dtype(np.int8), "int_val"),
    wire.DT_INT64: (np.dtype(np.int64), "int64_val"),
    wire.DT_BOOL: (np.dtype(np.bool_), "bool_val"),
    wire.DT_UINT16: (np.dtype(np.uint16), "int_val"),
    wire.DT_UINT32: (np.dtype(np.uint32), "uint32_val"),
    wire.DT_UINT64: (np.dtype(np.uint64), "uint64_val"),
}
"""Each numeric type's array type, and the field that holds its values where tensor_content is not used."""

_NUMBER_OF: Final = {dtype: number for number, (dtype, _) in NUMERIC.items()}

LENGTH_DELIMITED: Final = 2

FILLED_MAX_VALUES: Final = 1 << 24
"""A sender may give one value for a whole shape; this bounds what so few bytes can make us allocate."""


def fill(tensor: wire.TensorProto, values: npt.NDArray[Any] | Sequence[bytes]) -> None:
    """Write an array, or a list of byte strings, into an empty tensor message.

    Raises Invalid for an element type that this wire does not carry.
    """
    if not isinstance(values, np.ndarray):
        tensor.dtype = STRING
        tensor.tensor_shape.dim.add(size=len(values))
        tensor.string_val.extend(values)
        return
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)
    if values.dtype.kind in "OS":
        tensor.dtype = STRING
        tensor.string_val.extend(values.ravel().tolist())
        return
    number = _NUMBER_OF.get(values.dtype)
    if number is None:
        raise Invalid("tensor", "dtype", str(values.dtype), "a number type, bool, or byte strings")
    tensor.dtype = number
    tensor.tensor_content = values.tobytes()


def fill_fields(tensor: wire.TensorProto, values: npt.NDArray[Any]) -> None:
    """As `fill`, with numbers in the field of their type, where TensorFlow Serving's callers look for them.

    Raises Invalid for an element type that this wire does not carry.
    """
    number = _NUMBER_OF.get(values.dtype)
    if number is None:
        fill(tensor, values)
        return
    tensor.dtype = number
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)
    field = NUMERIC[number][1]
    if values.dtype.kind in "fb":
        tensor.MergeFromString(_packed(field, values.tobytes()))
    else:
        getattr(tensor, field).extend(values.ravel().tolist())


def _packed(field: str, raw: bytes) -> bytes:
    """A field of many floats or flags on the wire: the array's own bytes, behind the field's number and their count."""
    head = [wire.TensorProto.DESCRIPTOR.fields_by_name[field].number << 3 | LENGTH_DELIMITED]
    size = len(raw)
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes([*head, size]) + raw


def array(tensor: wire.TensorProto) -> npt.NDArray[Any]:
    """The array in a tensor message, byte strings as an array of objects; numbers may share the message's memory.

    Fewer values than the shape needs repeat the last one (none: zeros, empty strings), as TensorFlow reads them.
    Raises Invalid when type, shape and values do not fit each other.
    """
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise Invalid("tensor", "tensor_shape", list(shape), "a known size, 0 or more, in every dimension")
    count = math.prod(shape)
    if tensor.dtype == STRING:
        return _texts(tensor.string_val[:], count).reshape(shape)
    if tensor.dtype not in NUMERIC:
        raise Invalid("tensor", "dtype", int(tensor.dtype), f"one of {sorted([*NUMERIC, int(STRING)])}")
    dtype, field = NUMERIC[tensor.dtype]
    if tensor.tensor_content:
        if len(tensor.tensor_content) != count * dtype.itemsize:
            found = f"{len(tensor.tensor_content)} bytes"
            raise Invalid("tensor", "tensor_content", found, f"{count * dtype.itemsize} bytes for shape {list(shape)}")
        return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)
    given = getattr(tensor, field)
    numbers = np.zeros(_counted(len(given), count), dtype)
    # Small integers travel as int32, and one that is out of their range wraps around, as TensorFlow reads it.
    numbers[: len(given)] = np.array(given[:], np.int32 if field == "int_val" else dtype)
    return _repeated(numbers, len(given)).reshape(shape)


def _texts(given: list[bytes], count: int) -> npt.NDArray[Any]:
    if len(given) == count:
        return np.array(given, dtype=object)
    texts = np.full(_counted(len(given), count), b"", dtype=object)
    texts[: len(given)] = given
    return _repeated(texts, len(given))


def _counted(given: int, count: int) -> int:
    """The number of values to make room for; raises Invalid when more are given, or far too few."""
    if given > count or (given < count and count > FILLED_MAX_VALUES):
        raise Invalid("tensor", "values", f"{given} values", f"{count} values, as its shape says")
    return count


def _repeated(values: npt.NDArray[Any], given: int) -> npt.NDArray[Any]:
    if given:
        values[given:] = values[given - 1]
    return values
