"""Loads a version folder (a SavedModel) with TensorFlow, checks that it answers, and warms it up."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from serving import wire_pb2 as wire
from serving.server.model import Arrays, Model, Signature, Slot
from serving.server.status import Code, StatusError, invalid
from serving.tensors import NUMERIC, STRING

WARM_UP_ROWS: Final = 64
SERVE_TAG: Final = "serve"
OPERATION: Final = re.compile(r" \[Op:\w+\]")


def use_threads(op_threads: int) -> None:
    """Let one operation use so many threads; to be called before anything is loaded.

    Micro-batches are small: on a busy machine, splitting an operation among threads costs more than it gains.
    """
    tf.config.threading.set_intra_op_parallelism_threads(op_threads)


def load(folder: Path, version: int) -> Model:
    """The Model in a version folder, every signature called once with 64 rows of zeros and empty texts.

    Raises StatusError when the folder holds no whole SavedModel, or one whose signatures do not answer.
    """
    try:
        return _loaded(folder, version)
    except tf.errors.OpError as error:
        raise StatusError(Code(error.error_code), f"{folder} does not load: {error.message}") from error
    except StatusError:
        raise
    except Exception as error:  # whatever a broken folder makes TensorFlow raise refuses this version
        raise StatusError(Code.UNKNOWN, f"{folder} does not load: {type(error).__name__}: {error}") from error


def _loaded(folder: Path, version: int) -> Model:
    definitions = _definitions(folder)
    loaded = tf.saved_model.load(str(folder))
    callable_names = [name for name in loaded.signatures if name in definitions]
    if not callable_names:
        raise StatusError(Code.FAILED_PRECONDITION, f"{folder} has no signature that can be called")
    signatures = {name: _signature(definitions[name], loaded, name) for name in callable_names}
    for name, signature in signatures.items():
        _warm_up(folder, name, signature)
    return Model(version, signatures, definitions)


def _definitions(folder: Path) -> Mapping[str, wire.SignatureDef]:
    """The signatures' definitions as the folder's saved_model.pb states them."""
    path = folder / "saved_model.pb"
    message = saved_model_pb2.SavedModel()
    try:
        message.ParseFromString(path.read_bytes())
    except FileNotFoundError as error:
        raise StatusError(Code.NOT_FOUND, f"{path} does not exist") from error
    except Exception as error:  # protobuf's own error class differs between its implementations
        raise StatusError(Code.DATA_LOSS, f"{path} cannot be read: {error}") from error
    for graph in message.meta_graphs:
        if SERVE_TAG in graph.meta_info_def.tags:
            return {
                name: wire.SignatureDef.FromString(definition.SerializeToString())
                for name, definition in graph.signature_def.items()
            }
    raise StatusError(Code.NOT_FOUND, f"{path} has no graph with the tag {SERVE_TAG}")


def _signature(definition: wire.SignatureDef, loaded: Any, name: str) -> Signature:
    inputs = {alias: _slot(alias, info) for alias, info in definition.inputs.items()}
    types = {alias: tf.string if slot.number == STRING else tf.as_dtype(slot.dtype) for alias, slot in inputs.items()}
    outputs = frozenset(definition.outputs)

    def run(arrays: Arrays) -> Arrays:
        try:
            given = {alias: tf.constant(values, dtype=types[alias]) for alias, values in arrays.items()}
            # Through the loaded object: its variables would be freed with it, under the function's feet.
            answer = loaded.signatures[name](**given)
            return {alias: _array(tensor) for alias, tensor in answer.items()}
        except tf.errors.OpError as error:
            raise StatusError(Code(error.error_code), _complaint(error.message)) from error
        except UnicodeDecodeError as error:  # a complaint that quotes bytes of the request
            raise invalid(_complaint(error.object.decode("utf-8", "replace"))) from error

    return Signature(definition, inputs, outputs, run)


def _complaint(message: str) -> str:
    """What a graph says is wrong, without where its nodes were once defined, which is the trainer's own business."""
    if message.startswith("Graph execution error"):
        message = message.rpartition("\n\n")[2]
    return OPERATION.sub("", message)


def _array(tensor: Any) -> Any:
    values = tensor.numpy()
    return (
        values
        if isinstance(values, np.ndarray)
        else np.array(values, dtype=object if isinstance(values, bytes) else None)
    )


def _slot(name: str, info: wire.TensorInfo) -> Slot:
    if info.dtype == STRING:
        dtype = np.dtype(object)
    elif info.dtype in NUMERIC:
        dtype = NUMERIC[info.dtype][0]
    else:
        raise StatusError(
            Code.UNIMPLEMENTED, f"input {name} has the type {_named(info.dtype)}, which this server does not carry"
        )
    if info.tensor_shape.unknown_rank:
        return Slot(info.dtype, dtype, None)
    return Slot(info.dtype, dtype, tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim))


def _named(number: wire.DataType) -> str:
    return wire.DataType.Name(number) if number in wire.DataType.values() else str(number)


def _warm_up(folder: Path, name: str, signature: Signature) -> None:
    """Call a signature once, so that the first request finds its graph optimised and its memory in place."""
    try:
        outputs = signature.run({name: _zeros(slot) for name, slot in signature.inputs.items()})
    except StatusError as error:
        if error.code is Code.INVALID_ARGUMENT and [slot.number for slot in signature.inputs.values()] == [STRING]:
            return  # an example without any feature need not be one that the graph accepts
        raise StatusError(error.code, f"{folder}: signature {name} does not answer: {error.message}") from error
    for output, values in outputs.items():
        if values.dtype.kind != "O" and values.dtype not in {dtype for dtype, _ in NUMERIC.values()}:
            raise StatusError(
                Code.UNIMPLEMENTED,
                f"{folder}: output {output} of signature {name} has the type {values.dtype}, "
                "which this server does not carry",
            )


def _zeros(slot: Slot) -> np.ndarray[Any, Any]:
    sizes = slot.shape or ()
    shape = [size if size is not None else (WARM_UP_ROWS if axis == 0 else 1) for axis, size in enumerate(sizes)]
    return np.full(shape, b"", object) if slot.number == STRING else np.zeros(shape, slot.dtype)
