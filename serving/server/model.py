"""What a served version is to the rest of the server: its signatures, and a way to call each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from serving import wire_pb2 as wire

Arrays = Mapping[str, npt.NDArray[Any]]
"""Arrays by name; texts are arrays of objects that hold bytes."""


def type_name(dtype: np.dtype[Any]) -> str:
    """TensorFlow's name of an element type.

    >>> type_name(np.dtype(np.float32)), type_name(np.dtype(np.int64)), type_name(np.dtype(object))
    ('float', 'int64', 'string')
    """
    return _NAMES.get(dtype.name, dtype.name)


_NAMES = {"object": "string", "float32": "float", "float64": "double"}


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call a version: the declared inputs and outputs, and the call itself.

    run: takes an array for every input, of the declared type, and gives one for every output; raises StatusError.
    """

    definition: wire.SignatureDef
    inputs: Mapping[str, "Slot"]
    outputs: frozenset[str]
    run: Callable[[Arrays], Arrays]


@dataclass(frozen=True, slots=True)
class Slot:
    """What an input accepts: an element type, and a shape in which None allows any size (no shape: any rank)."""

    number: wire.DataType
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape may be given."""
        return self.shape is None or (
            len(shape) == len(self.shape)
            and all(want is None or want == size for want, size in zip(self.shape, shape, strict=True))
        )


@dataclass(frozen=True, slots=True)
class Model:
    """One loaded version of a model, ready to answer."""

    version: int
    signatures: Mapping[str, Signature]
    definitions: Mapping[str, wire.SignatureDef]
