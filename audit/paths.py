"""Every way on which a raw row reaches its numbers, each as one function, so that they can be held against each other.

    call("transform", columns) -> every feature      float32 or int64 [n]
    call("explain", columns)   -> effects            float32 [n, F]; logit, baseline_logit  float32 [n]
    call("serving_default", columns) -> score        float32 [n]

columns: the model's raw inputs, as `features.analysis.raw_columns` gives them. The ways: a SavedModel in this process
(`training.evaluate.Loaded.call`, by which training evaluates and the audit recomputes), Predict by gRPC, and predict
by REST in row or column form; `litert` is the one that need not agree to the bit.
"""

import base64
import http.client
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import grpc
import numpy as np
import numpy.typing as npt

from features.analysis import Columns
from plumbline.errors import ModelUnavailable
from serving import tensors
from serving import wire_pb2 as wire
from serving.client import CHANNEL_OPTIONS
from serving.methods import PREDICT
from training.evaluate import Loaded
from training.litert import convert, interpreted

Array = npt.NDArray[Any]
Call = Callable[[str, Columns], Mapping[str, Array]]
Rows = npt.NDArray[np.intp]

OUTPUTS: Final = ("transform", "serving_default", "explain")
"""The signatures that say something of a row."""
ONLY: Final = {"serving_default": "score"}
"""Signatures with one output: REST leaves its name out."""
SIZES: Final = (1, 2, 7, 63, 64, 65, 512)
"""Batches around each place where a kernel changes its way: a vector's tail, the padding's edge, a matrix's blocks."""
TIMEOUT_SECONDS: Final = 60.0


def by_grpc(target: str, model_name: str) -> Call:
    """Predict by gRPC at host:port. What a call raises is ModelUnavailable."""
    channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
    predict = channel.unary_unary(
        PREDICT,
        request_serializer=wire.PredictRequest.SerializeToString,
        response_deserializer=wire.PredictResponse.FromString,
    )

    def call(signature: str, columns: Columns) -> dict[str, Array]:
        request = wire.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = model_name, signature
        for name, column in columns.items():
            tensors.fill(request.inputs[name], column)
        try:
            answer = predict(request, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise ModelUnavailable(f"{model_name} at {target}: {error.code().name}: {error.details()}") from error
        return {name: tensors.array(tensor) for name, tensor in answer.outputs.items()}

    return call


def by_rest(port: int, model_name: str, form: str, host: str = "127.0.0.1") -> Call:
    """predict by REST; form: `row` (`instances`) or `column` (`inputs`). What a call raises is ModelUnavailable."""
    path = f"/v1/models/{model_name}:predict"

    def call(signature: str, columns: Columns) -> dict[str, Array]:
        inputs = {name: _json_values(column) for name, column in columns.items()}
        if form == "row":
            rows = [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
            body: dict[str, Any] = {"signature_name": signature, "instances": rows}
        else:
            body = {"signature_name": signature, "inputs": inputs}
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        except OSError as error:
            raise ModelUnavailable(f"{model_name} at {host}:{port}: {error}") from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise ModelUnavailable(f"{model_name} at {host}:{port}: {answer.status} {text[:1000].decode()}")
        found = json.loads(text)
        if form == "row":
            rows = found["predictions"]
            outputs = (
                {ONLY[signature]: rows}
                if signature in ONLY
                else {name: [row[name] for row in rows] for name in rows[0]}
            )
        else:
            outputs = {ONLY[signature]: found["outputs"]} if signature in ONLY else found["outputs"]
        return {name: _read(values) for name, values in outputs.items()}

    return call


def litert(model: Loaded) -> Call:
    """The scoring signature converted to LiteRT with its built-in operations alone, run in this process."""
    call = interpreted(convert(model))
    return lambda signature, columns: call(columns)


def shuffled(rows: int, random: np.random.Generator) -> list[Rows]:
    """All row numbers in a random order, cut into batches of every size in SIZES, which come in a random order too."""
    sizes = random.permutation(np.resize(SIZES, len(SIZES) * -(-rows // sum(SIZES))))
    ends = np.cumsum(sizes)
    return np.split(random.permutation(rows), ends[ends < rows])


def scattered(call: Call, signature: str, columns: Columns, parts: Iterable[Rows]) -> dict[str, Array]:
    """Outputs of all n rows, computed in batches and put back in their places; parts: row numbers, each row once."""
    found: dict[str, Array] = {}
    count = len(columns["history"])
    for rows in parts:
        for name, values in call(signature, {each: column[rows] for each, column in columns.items()}).items():
            if name not in found:
                found[name] = np.zeros((count, *values.shape[1:]), values.dtype)
            found[name][rows] = values
    return found


def differing(one: Mapping[str, Array], other: Mapping[str, Array]) -> int:
    """How many numbers of equally named arrays are not the same bits; all of an array whose type or shape differs."""
    count = 0
    for name in one.keys() | other.keys():
        a, b = one.get(name), other.get(name)
        if a is None or b is None or a.dtype != b.dtype or a.shape != b.shape:
            count += max(each.size for each in (a, b) if each is not None)
        else:
            unsigned = np.dtype(f"u{a.dtype.itemsize}")
            count += int(np.sum(np.ascontiguousarray(a).view(unsigned) != np.ascontiguousarray(b).view(unsigned)))
    return count


def distance(one: Mapping[str, Array], other: Mapping[str, Array]) -> float:
    """The largest absolute difference between numbers of the same name."""
    return max(float(np.max(np.abs(one[name].astype(np.float64) - other[name]))) for name in one)


def _json_values(column: Array) -> list[Any]:
    return [_text(value) for value in column] if column.dtype == object else column.tolist()


def _text(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _read(values: list[Any]) -> Array:
    """Numbers of an answer: an integer has no point, and a float is written so that its float32 is read back."""
    found = np.array(values)
    return found.astype(np.float32) if found.dtype.kind == "f" else found
