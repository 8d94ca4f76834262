"""What classify, regress and multi-inference mean: examples in, classes and values out, or a StatusError.

A signature's own method name is not checked, as TensorFlow Serving does not by default: what counts are its inputs and
outputs. The complaints are TensorFlow Serving's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from google.protobuf import text_format

from serving.methods import CLASSIFY_METHOD, DEFAULT_SIGNATURE, REGRESS_METHOD
from serving.server import dataplane
from serving.server.dataplane import Spec
from serving.server.model import Arrays, Model, Signature, type_name
from serving.server.models import Models
from serving.server.status import MISSING_NAME, Code, StatusError, invalid

INPUTS: Final = "inputs"
CLASSES, SCORES, OUTPUTS = "classes", "scores", "outputs"


@dataclass(frozen=True, slots=True)
class Classified:
    """Labels (texts [n][c], or all empty) and scores (float32 [n, c], or all 0) of n examples and c classes."""

    version: int
    signature: str
    labels: list[list[str]]
    scores: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Regressed:
    """A value for each of n examples, float32 [n]."""

    version: int
    signature: str
    values: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Task:
    """One part of a multi-inference: which signature, and by which method it is meant."""

    spec: Spec
    method: str


def classify(models: Models, spec: Spec, examples: Sequence[bytes]) -> Classified:
    """Classes of each example by one signature. Raises StatusError."""
    model = dataplane.find(models, spec)
    signature = _signature(model, spec, "No signature was found with the name: ")
    check_classification(signature)
    return _classified(model, spec, _run(signature, examples), len(examples))


def regress(models: Models, spec: Spec, examples: Sequence[bytes]) -> Regressed:
    """A value for each example by one signature. Raises StatusError."""
    model = dataplane.find(models, spec)
    signature = _signature(model, spec, "No signature was found with the name: ")
    check_regression(signature)
    return _regressed(model, spec, _run(signature, examples), len(examples))


def multi(models: Models, tasks: Sequence[Task], examples: Sequence[bytes]) -> list[Classified | Regressed]:
    """Several signatures of one version on the same examples, a result for each task. Raises StatusError."""
    if not tasks:
        raise invalid(MISSING_NAME)
    model = dataplane.find(models, tasks[0].spec)
    signatures = [_checked_task(model, tasks, index) for index in range(len(tasks))]
    if len({signature.definition.inputs[INPUTS].name for signature in signatures}) > 1:
        raise invalid("Input tensor must be the same for all Signatures.")
    results: list[Classified | Regressed] = []
    for task, signature in zip(tasks, signatures, strict=True):
        outputs = _run(signature, examples)
        make = _classified if task.method == CLASSIFY_METHOD else _regressed
        results.append(make(model, task.spec, outputs, len(examples)))
    return results


def _checked_task(model: Model, tasks: Sequence[Task], index: int) -> Signature:
    task = tasks[index]
    if not task.spec.name:
        raise invalid("Found ModelSpec with an empty model name.")
    if task.spec.name != tasks[0].spec.name:
        raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
    name = task.spec.signature or DEFAULT_SIGNATURE
    if name in {before.spec.signature or DEFAULT_SIGNATURE for before in tasks[:index]}:
        raise invalid(f"Duplicate evaluation of signature: {name}")
    signature = _signature(model, task.spec, "Requested signature not found in model graph: ")
    if task.method == CLASSIFY_METHOD:
        check_classification(signature)
    elif task.method == REGRESS_METHOD:
        check_regression(signature)
    else:
        raise StatusError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method}")
    return signature


def _signature(model: Model, spec: Spec, complaint: str) -> Signature:
    name = spec.signature or DEFAULT_SIGNATURE
    if name not in model.signatures:
        raise invalid(complaint + name)
    return model.signatures[name]


def check_classification(signature: Signature) -> None:
    """Raise StatusError unless a signature takes examples and gives classes, scores, or both."""
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if INPUTS not in signature.inputs:
        raise _unfit(f"No classification inputs found in SignatureDef: {_printed(signature)}")
    if not {CLASSES, SCORES} & signature.outputs:
        raise _unfit(
            f'Expected classification signature outputs to contain at least one of "{CLASSES}" or "{SCORES}". '
            f"Signature was: {_printed(signature)}"
        )


def check_regression(signature: Signature) -> None:
    """Raise StatusError unless a signature takes examples and gives values."""
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if INPUTS not in signature.inputs:
        raise _unfit(f"No regression inputs found in SignatureDef: {_printed(signature)}")
    if OUTPUTS not in signature.outputs:
        raise _unfit(f"No regression outputs found in SignatureDef: {_printed(signature)}")


def _unfit(message: str) -> StatusError:
    return StatusError(Code.FAILED_PRECONDITION, message)


def _printed(signature: Signature) -> str:
    return text_format.MessageToString(signature.definition)


def _run(signature: Signature, examples: Sequence[bytes]) -> Arrays:
    if not examples:
        raise invalid("Input is empty.")
    given = np.empty(len(examples), object)
    given[:] = examples
    inputs = {INPUTS: given}
    dataplane.check_arrays(signature, inputs)
    return signature.run(inputs)


def _classified(model: Model, spec: Spec, outputs: Arrays, count: int) -> Classified:
    labels, scores = outputs.get(CLASSES), outputs.get(SCORES)
    for name, values, wanted in ((CLASSES, labels, "DT_STRING"), (SCORES, scores, "DT_FLOAT")):
        if values is None:
            continue
        if values.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(values)}")
        if _official(values) != wanted:
            raise invalid(f"Expected {name} Tensor of {wanted}. Got: {_official(values)}")
        if len(values) != count:
            raise invalid(f"Expected {name} output batch size of {count}. Got: {len(values)}")
    if labels is not None and scores is not None and labels.shape[1] != scores.shape[1]:
        raise invalid(
            f"Tensors class and score should match in dim_size(1). Got {labels.shape[1]} vs. {scores.shape[1]}"
        )
    columns = (labels if labels is not None else scores).shape[1]  # type: ignore[union-attr] # one of them is there
    texts = (
        [[label.decode("utf-8", "replace") for label in row] for row in labels]
        if labels is not None
        else [[""] * columns] * count
    )
    numbers = scores if scores is not None else np.zeros((count, columns), np.float32)
    return Classified(model.version, spec.signature or DEFAULT_SIGNATURE, texts, numbers)


def _regressed(model: Model, spec: Spec, outputs: Arrays, count: int) -> Regressed:
    values = outputs[OUTPUTS]
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        raise invalid(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(values)}"
        )
    if len(values) != count:
        raise invalid(f"Input batch size did not match output batch size: {count} vs. {len(values)}")
    if values.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {_official(values)}")
    return Regressed(model.version, spec.signature or DEFAULT_SIGNATURE, values.reshape(count))


def _shape(values: npt.NDArray[Any]) -> str:
    return "[" + ",".join(map(str, values.shape)) + "]"


def _official(values: npt.NDArray[Any]) -> str:
    """The protocol's name of an array's type, such as DT_DOUBLE."""
    return f"DT_{type_name(values.dtype).upper()}"
