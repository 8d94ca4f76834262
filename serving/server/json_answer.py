"""Outputs as the JSON text of a REST answer, laid out and numbered as TensorFlow Serving does.

A float is written with six digits where those read back to the same value, otherwise with as many as its type needs,
so that a score read from JSON is the score that was computed, to the bit.
"""

import base64
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from serving.server.model import Arrays
from serving.server.status import invalid

INDENT: Final = "    "
DIGITS: Final = {4: 9, 8: 17}
"""Significant digits that tell every float of so many bytes from its neighbours."""


def decimal(value: np.floating[Any]) -> str:
    """A float as JSON, with NaN, Infinity and -Infinity as bare words.

    >>> decimal(np.float32(0.1)), decimal(np.float32(2)), decimal(np.float32(1) / np.float32(3))
    ('0.1', '2.0', '0.333333343')
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = f"{float(value):g}"
    if type(value)(float(text)) != value:
        text = f"{float(value):.{DIGITS[value.itemsize]}g}"
    return text if "." in text or "e" in text else text + ".0"


def text_of(outputs: Arrays, form: str) -> str:
    """The answer's text: `predictions` by row where the form is `row`, `outputs` by column otherwise.

    The name of a single output is left out. Raises StatusError when rows are asked for and the outputs have no
    common first dimension.
    """
    return _rows(outputs) if form == "row" else _columns(outputs)


def classes_text(labels: Sequence[Sequence[str]], scores: npt.NDArray[np.float32]) -> str:
    """The answer's text of a classify request: pairs of label and score for each example.

    >>> print(classes_text([["fraud", "honest"]], np.float32([[0.25, 0.75]])))
    {
        "results": [[["fraud", 0.25], ["honest", 0.75]]
        ]
    }
    """
    rows = (
        ", ".join(f"[{_quoted(label)}, {decimal(score)}]" for label, score in zip(*row, strict=True))
        for row in zip(labels, scores, strict=True)
    )
    body = ", ".join(f"[{row}]" for row in rows)
    return f'{{\n{INDENT}"results": [{body}\n{INDENT}]\n}}'


def values_text(values: npt.NDArray[np.float32]) -> str:
    """The answer's text of a regress request: a value for each example.

    >>> print(values_text(np.float32([0.5, 2])))
    {
        "results": [0.5, 2.0]
    }
    """
    return f'{{\n{INDENT}"results": [{", ".join(map(decimal, values))}]\n}}'


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _rows(outputs: Arrays) -> str:
    count = -1
    for name, values in outputs.items():
        if values.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if count >= 0 and len(values) != count:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(values)} expecting: {count}")
        count = len(values)
    written = {name: [_line(row) for row in _cells(name, values)] for name, values in outputs.items()}
    if len(written) == 1:
        (rows,) = written.values()
        body = ", ".join(rows)
    else:
        body = ",".join(
            f"\n{INDENT * 2}{{"
            + ",".join(f"\n{INDENT * 3}{json.dumps(name)}: {rows[index]}" for name, rows in written.items())
            + f"\n{INDENT * 2}}}"
            for index in range(count)
        )
    return f'{{\n{INDENT}"predictions": [{body}\n{INDENT}]\n}}' if body else f'{{\n{INDENT}"predictions": []\n}}'


def _columns(outputs: Arrays) -> str:
    if len(outputs) == 1:
        ((name, values),) = outputs.items()
        body = _block(_cells(name, values), 1)
    else:
        body = (
            "{"
            + ",".join(
                f"\n{INDENT * 2}{json.dumps(name)}: {_block(_cells(name, values), 2)}"
                for name, values in outputs.items()
            )
            + f"\n{INDENT}}}"
        )
    return f'{{\n{INDENT}"outputs": {body}\n}}'


def _cells(name: str, values: npt.NDArray[Any]) -> Any:
    """An output's values as JSON texts, in lists nested as its shape."""
    write = _writer(name, values.dtype)
    flat = np.empty(values.size, dtype=object)
    flat[:] = [write(value) for value in values.ravel()]
    return flat.reshape(values.shape).tolist() if values.ndim else flat[0]


def _writer(name: str, dtype: np.dtype[Any]) -> Callable[[Any], str]:
    if dtype.kind == "f":
        return decimal
    if dtype.kind == "b":
        return lambda value: "true" if value else "false"
    if dtype.kind in "iu":
        return str
    if name.endswith("_bytes"):
        return lambda value: json.dumps({"b64": base64.b64encode(value).decode("ascii")})
    return lambda value: _quoted(value.decode("utf-8", "replace"))


def _line(cells: Any) -> str:
    return "[" + ", ".join(map(_line, cells)) + "]" if isinstance(cells, list) else str(cells)


def _block(cells: Any, depth: int) -> str:
    """Nested lists with every element on a line of its own."""
    if not isinstance(cells, list):
        return str(cells)
    if not cells:
        return "[]"
    inner = ",".join(f"\n{INDENT * (depth + 1)}{_block(cell, depth + 1)}" for cell in cells)
    return f"[{inner}\n{INDENT * depth}]"
