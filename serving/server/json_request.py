"""The JSON body of a REST predict request, as arrays: rows under `instances`, or columns under `inputs`."""

import base64
import math
from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from serving.server import json_quick
from serving.server.json_text import json_type, shown
from serving.server.model import Arrays, Slot, type_name
from serving.server.status import StatusError, invalid
from serving.tensors import NUMERIC, STRING

Form = Literal["row", "column"]

LEVELS_MAX: Final = 32
"""Lists in lists beyond this are no tensor."""


def signature_name(document: Mapping[str, Any]) -> str:
    """The signature that a request names; empty where it names none. Raises StatusError."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {shown(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def arrays(document: Mapping[str, Any], slots: Mapping[str, Slot]) -> tuple[Form, Arrays]:
    """Which form the request has, and its inputs. Raises StatusError."""
    if "instances" in document and "inputs" in document:
        raise invalid(
            f"JSON Value: {shown(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist "
        )
    if "instances" in document:
        return "row", _from_rows(document, slots)
    if "inputs" in document:
        return "column", _from_columns(document["inputs"], slots)
    raise invalid("Missing 'inputs' or 'instances' key")


def _from_columns(inputs: Any, slots: Mapping[str, Slot]) -> Arrays:
    if not isinstance(inputs, dict) or is_base64(inputs):
        if len(slots) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        return {name: _array(inputs, slot, _shape_of(inputs)) for name, slot in slots.items()}
    for name in slots:
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: _array(inputs[name], slot, _shape_of(inputs[name])) for name, slot in slots.items()}


def _from_rows(document: Mapping[str, Any], slots: Mapping[str, Slot]) -> Arrays:
    rows = document["instances"]
    if not isinstance(rows, list):
        raise invalid(f"JSON Value: {shown(document)} Excepting 'instances' to be an list/array")
    if not rows:
        raise invalid(f"JSON Value: {shown(document)} No values in 'instances' array")
    if not isinstance(rows[0], dict) and len(slots) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    if (quick := _quick_rows(rows, slots)) is not None:
        return quick
    named = _is_named(rows[0])
    given: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in slots}
    for index, row in enumerate(rows):
        if named != _is_named(row):
            expecting = "object but got list" if named else "value/list but got object"
            raise invalid(f"Expecting {expecting} at item {index} of input list")
        for name, value in row.items() if named else [(next(iter(slots)), row)]:
            try:
                given_before = given[name][0] if given.get(name) else None
                value_array = _instance(value, name, slots, given_before)
            except StatusError as error:
                where = f"element: {index} key: {name} of" if named else f"element: {index} of"
                raise invalid(f"Failed to process {where} 'instances' list. Error: {error}") from error
            given[name].append(value_array)
        if named and row.keys() != slots.keys():
            raise invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: {shown(row)} "
                f"keys must be equal to: {','.join(sorted(slots))}"
            )
    return {name: np.stack(values) for name, values in given.items()}


def _quick_rows(rows: list[Any], slots: Mapping[str, Slot]) -> Arrays | None:
    """The inputs where every row is plainly well-formed; None where a row takes a closer look."""
    if not _is_named(rows[0]):
        columns = dict.fromkeys(slots, rows)  # of which there is one
    elif all(isinstance(row, dict) and row.keys() == slots.keys() for row in rows):
        columns = {name: [row[name] for row in rows] for name in slots}
    else:
        return None
    found = {}
    for name, column in columns.items():
        try:
            shape = (len(rows), *_shape_of(column[0]))
        except StatusError:
            return None
        if (values := json_quick.array(column, slots[name], shape)) is None:
            return None
        found[name] = values
    return found


def _instance(value: Any, name: str, slots: Mapping[str, Slot], first: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    """One row's array of one input, of the same shape as the first row's."""
    if name not in slots:
        raise invalid(f"JSON object: does not have named input: {name}")
    shape = _shape_of(value)
    values = _array(value, slots[name], shape)
    if first is not None and first.size != values.size:
        raise invalid(f"Expecting tensor size: {first.size} but got: {values.size}")
    if first is not None and first.shape != values.shape:
        raise invalid(f"Expecting shape {_printed(first.shape)} but got: {_printed(values.shape)}")
    return values


def _is_named(row: Any) -> bool:
    return isinstance(row, dict) and not is_base64(row)


def is_base64(value: Any) -> bool:
    """Whether a value is bytes as JSON has them: an object of `b64` alone."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def base64_bytes(value: dict[str, Any]) -> bytes:
    """The bytes in an object of `b64`, whose padding may be left out. Raises StatusError."""
    text = "".join(value["b64"].split())
    try:
        return base64.b64decode(text if "=" in text else text + "=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        raise invalid("Unable to base64 decode") from error


def lossless(value: int | float, dtype: np.dtype[Any]) -> bool:
    """Whether a JSON number may become a float of this type: an integer that it holds, or a fraction in its range."""
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 64:
        return abs(value) < 1 << (np.finfo(dtype).nmant + 1)
    # An integer of more bits is a fraction here, as it is to the protocol's own parser.
    return (isinstance(value, float) and not math.isfinite(value)) or abs(value) <= float(np.finfo(dtype).max)


def _printed(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _shape_of(value: Any) -> tuple[int, ...]:
    """The shape that the first element of every level suggests; the others must agree. Raises StatusError."""
    shape: list[int] = []
    while isinstance(value, list):
        if len(shape) == LEVELS_MAX:
            raise invalid(f"Encountered list at unexpected level: {LEVELS_MAX} expected < {LEVELS_MAX}")
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _array(value: Any, slot: Slot, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if (quick := json_quick.array(value, slot, shape)) is not None:
        return quick
    flat: list[Any] = []
    _flatten(value, slot, shape, 0, flat)
    values = np.empty(len(flat), slot.dtype)
    values[:] = flat
    return values.reshape(shape)


def _flatten(value: Any, slot: Slot, shape: tuple[int, ...], level: int, flat: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {shown(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        flat.append(_element(value, slot))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for each in value:
        _flatten(each, slot, shape, level + 1, flat)


def _element(value: Any, slot: Slot) -> Any:
    """One value as its input's type holds it, or the protocol's complaint."""
    if slot.number == STRING:
        return _text(value)
    dtype = NUMERIC[slot.number][0]
    if dtype.kind == "b" and isinstance(value, bool):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or dtype.kind == "b":
        raise _wrong_type(value, slot)
    if dtype.kind == "f":
        if not lossless(value, dtype):
            target = "float" if dtype.itemsize == 4 else "double"
            raise invalid(f"Cannot convert JSON value: {shown(value)} to {target} without loss of precision.")
        return value
    about = np.iinfo(dtype)
    if isinstance(value, float) or not about.min <= value <= about.max:
        raise _wrong_type(value, slot)
    return value


def _text(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if not isinstance(value, dict):
        raise invalid(f"JSON Value: {shown(value)} Type: {json_type(value)} is not of expected type: string")
    if not is_base64(value):
        raise invalid(f"JSON Value: {shown(value)} not formatted correctly for base64 data")
    return base64_bytes(value)


def _wrong_type(value: Any, slot: Slot) -> StatusError:
    return invalid(
        f"JSON Value: {shown(value)} Type: {json_type(value)} is not of expected type: {type_name(slot.dtype)}"
    )
