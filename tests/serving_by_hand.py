"""A model server in this process, both transports and all, whose models are written by hand: no TensorFlow, no waiting.

`served` gives a server of `sum` (versions 1 and 2 under the labels `stable` and `canary`), `plain` (one input),
`texts` and `examples`, whose signatures are good and bad ones for classify and regress.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving import wire_pb2 as wire
from serving.server import grpc_edge, health, http_edge, reflection
from serving.server.model import Arrays, Model, Signature, Slot
from serving.server.models import Models
from serving.server.monitoring import Monitoring
from serving.server.status import Code, StatusError
from serving.server.watch import Watch
from serving.tensors import NUMERIC, STRING

AMOUNT = "amount"


def slot(number: wire.DataType, *shape: int | None) -> Slot:
    """What an input accepts, as its definition would say."""
    return Slot(number, np.dtype(object) if number == STRING else NUMERIC[number][0], shape)


def signature(run: Any, inputs: dict[str, Slot], outputs: set[str], method: str = "predict") -> Signature:
    """A signature that calls a function; input `x` of it is the tensor `x:0`."""
    definition = wire.SignatureDef(method_name=f"tensorflow/serving/{method}")
    for name, each in inputs.items():
        info = definition.inputs[name]
        info.name, info.dtype = f"{name}:0", each.number
        for size in each.shape or ():
            info.tensor_shape.dim.add(size=-1 if size is None else size)
    for name in outputs:
        definition.outputs[name].name = f"{name}:0"
    return Signature(definition, inputs, frozenset(outputs), run)


def amounts(examples: Any) -> Any:
    """The feature `amount` of every example, float32 [n]; a graph that parses would say the same of a missing one."""
    found = []
    for each in examples:
        try:
            feature = wire.Example.FromString(each).features.feature
        except Exception as error:
            raise StatusError(Code.INVALID_ARGUMENT, "Could not parse example input") from error
        if AMOUNT not in feature or not feature[AMOUNT].float_list.value:
            raise StatusError(Code.INVALID_ARGUMENT, f"Feature: {AMOUNT} (data type: float) is required but not found.")
        found.append(feature[AMOUNT].float_list.value[0])
    return np.float32(found)


def scores(examples: Any) -> Any:
    """Two scores for every example, float32 [n, 2]: amount / 10 and the rest to 1."""
    first = np.clip(amounts(examples) / 10, 0, 1).astype(np.float32)
    return np.stack([first, 1 - first], 1)


def labels(examples: Any) -> Any:
    """Two labels for every example, texts [n, 2]."""
    return np.array([[b"fraud", b"honest"]] * len(examples), object)


def _sum(version: int) -> dict[str, Signature]:
    inputs = {"a": slot(wire.DT_FLOAT, None), "b": slot(wire.DT_FLOAT, None)}

    def run(given: Arrays) -> Arrays:
        return {"sum": given["a"] + given["b"], "version": np.full(len(given["a"]), version)}

    def uneven(given: Arrays) -> Arrays:
        return {"sum": given["a"], "two": np.zeros(2, np.int64)}

    return {
        "serving_default": signature(run, inputs, {"sum", "version"}),
        "uneven": signature(uneven, inputs, {"sum", "two"}),
    }


def _plain() -> dict[str, Signature]:
    return {
        "serving_default": signature(lambda g: {"y": g["x"] * 2}, {"x": slot(wire.DT_FLOAT, None)}, {"y"}),
        "matrix": signature(lambda g: {"y": g["x"]}, {"x": slot(wire.DT_FLOAT, None, 2)}, {"y"}),
        "double": signature(lambda g: {"y": g["x"]}, {"x": slot(wire.DT_DOUBLE, None)}, {"y"}),
        "int": signature(lambda g: {"y": g["x"]}, {"x": slot(wire.DT_INT64, None)}, {"y"}),
        "bool": signature(lambda g: {"y": g["x"]}, {"x": slot(wire.DT_BOOL, None)}, {"y"}),
        "scalar": signature(lambda g: {"y": g["x"].sum()[()]}, {"x": slot(wire.DT_FLOAT, None)}, {"y"}),
        "nothing": signature(lambda g: {"y": np.float32([1])}, {}, {"y"}),
    }


def _texts() -> dict[str, Signature]:
    inputs = {"text": slot(STRING, None)}
    return {
        "serving_default": signature(lambda g: {"text": g["text"]}, inputs, {"text"}),
        "raw": signature(lambda g: {"raw_bytes": g["text"]}, inputs, {"raw_bytes"}),
    }


def _examples() -> dict[str, Signature]:
    one = {"inputs": slot(STRING, None)}

    def from_(make: Any) -> Any:
        return lambda given: make(given["inputs"])

    classify = from_(lambda e: {"classes": labels(e), "scores": scores(e)})
    regress = from_(lambda e: {"outputs": amounts(e) * 2})
    flat = from_(lambda e: {"classes": labels(e)[:, 0]})
    double = from_(lambda e: {"scores": scores(e).astype(np.float64)})
    wide = from_(lambda e: {"classes": labels(e), "scores": scores(e)[:, :1]})
    other = signature(regress, one, {"outputs"}, "regress")
    other.definition.inputs["inputs"].name = "another:0"
    return {
        "serving_default": signature(classify, one, {"classes", "scores"}, "classify"),
        "classes_only": signature(from_(lambda e: {"classes": labels(e)}), one, {"classes"}, "classify"),
        "scores_only": signature(from_(lambda e: {"scores": scores(e)}), one, {"scores"}, "classify"),
        "regress": signature(regress, one, {"outputs"}, "regress"),
        "column": signature(from_(lambda e: {"outputs": amounts(e)[:, None]}), one, {"outputs"}),
        "elsewhere": other,
        "two_inputs": signature(regress, {**one, "more": slot(STRING, None)}, {"outputs"}),
        "other_input": signature(regress, {"examples": slot(STRING, None)}, {"outputs"}),
        "float_input": signature(regress, {"inputs": slot(wire.DT_FLOAT, None)}, {"outputs"}),
        "three_outputs": signature(classify, one, {"classes", "scores", "more"}),
        "other_output": signature(classify, one, {"labels"}),
        "flat_classes": signature(flat, one, {"classes"}),
        "int_classes": signature(from_(lambda e: {"classes": np.zeros((len(e), 2), np.int64)}), one, {"classes"}),
        "double_scores": signature(double, one, {"scores"}),
        "few_scores": signature(from_(lambda e: {"scores": scores(e)[:-1]}), one, {"scores"}),
        "unlike": signature(wide, one, {"classes", "scores"}),
        "square": signature(from_(lambda e: {"outputs": scores(e)}), one, {"outputs"}),
        "few_values": signature(from_(lambda e: {"outputs": amounts(e)[:-1]}), one, {"outputs"}),
        "int_values": signature(from_(lambda e: {"outputs": np.zeros(len(e), np.int64)}), one, {"outputs"}),
    }


KINDS = {"sum": _sum, "plain": lambda _: _plain(), "texts": lambda _: _texts(), "examples": lambda _: _examples()}


def load(folder: Path, version: int) -> Model:
    """The model that a folder's parent is named after; a folder that says so is broken."""
    if (folder / "saved_model.pb").read_text() == "broken":
        raise StatusError(Code.DATA_LOSS, "cut short")
    signatures = KINDS[folder.parent.name](version)
    return Model(version, signatures, {name: each.definition for name, each in signatures.items()})


def write(root: Path, name: str, version: int, text: str = "good") -> None:
    """Write a version folder that `load` takes."""
    folder = root / name / str(version)
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text(text)


def config(root: Path, sum_labels: dict[str, int], names: Any = KINDS) -> wire.ModelServerConfig:
    """All models under a root, the two newest versions of each."""
    told = wire.ModelServerConfig()
    told.model_config_list.SetInParent()
    for name in names:
        model = told.model_config_list.config.add(
            name=name, base_path=str(root / name), model_platform="tensorflow", version_labels={}
        )
        model.model_version_policy.latest.num_versions = 2
        if name == "sum":
            model.version_labels.update(sum_labels)
    return told


@dataclass
class ByHand:
    """A running server: its models, and where it listens."""

    models: Models
    root: Path
    port: int
    rest_port: int
    rest_server: http_edge.Server

    @property
    def target(self) -> str:
        """host:port of gRPC."""
        return f"127.0.0.1:{self.port}"


@contextmanager
def served(root: Path, cors: bool = False) -> Iterator[ByHand]:
    """A server of the models above, which are written under the root; version 3 of `sum` is broken."""
    for name, version in (("sum", 1), ("sum", 2), ("plain", 1), ("texts", 1), ("examples", 1)):
        write(root, name, version)
    write(root, "sum", 3, "broken")
    bell = threading.Semaphore(0)
    models = Models(load, wake=bell.release)
    models.reload(config(root, {}))
    for _ in range(2):
        models.poll()
    models.reload(config(root, {"stable": 1, "canary": 2}))
    watch = Watch(Monitoring())
    grpc_server, port = grpc_edge.bind(models, watch, "127.0.0.1", 0)
    health.add(grpc_server)
    reflection.add(grpc_server, health=True)
    rest_server, rest_port = http_edge.bind(models, watch, "127.0.0.1", 0, cors)
    stop = threading.Event()

    def poll() -> None:
        while not stop.is_set():
            bell.acquire()
            models.poll()

    threads = [threading.Thread(target=poll), threading.Thread(target=rest_server.serve_forever, args=(0.05,))]
    for thread in threads:
        thread.start()
    grpc_server.start()
    try:
        yield ByHand(models, root, port, rest_port, rest_server)
    finally:
        grpc_server.stop(0).wait()
        rest_server.shutdown()
        rest_server.server_close()
        stop.set()
        bell.release()
        for thread in threads:
            thread.join()
