"""What each gRPC call does: its message to the data plane, and the answer to a message."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy.typing as npt

from plumbline.errors import Invalid
from serving import tensors
from serving import wire_pb2 as wire
from serving.methods import MODEL_SERVICE, PREDICTION_SERVICE, SIGNATURE_DEF, SIGNATURE_DEF_MAP
from serving.server import dataplane, examples, inference
from serving.server.dataplane import Spec
from serving.server.inference import Classified, Regressed, Task
from serving.server.models import Models
from serving.server.status import MISSING_SPEC, UNSUPPORTED_CONFIG, Code, invalid
from serving.server.versions import VersionStatus

Fill = Callable[[wire.TensorProto, npt.NDArray[Any]], None]
Goes = Callable[[], bool]
"""Whether the caller still waits for its answer."""


@dataclass(frozen=True, slots=True)
class Call:
    """One method of a service: its messages' classes, and what answers it. That raises StatusError."""

    service: str
    name: str
    request: Any
    response: Any
    answer: Callable[[Models, Any, Goes], Any]


def predict(models: Models, request: wire.PredictRequest, fill: Fill = tensors.fill_fields) -> wire.PredictResponse:
    """PredictionService.Predict; fill: which of a tensor's two forms its answer has. Raises StatusError."""
    spec = _spec(request)
    model = dataplane.find(models, spec)
    dataplane.check_names(dataplane.signature_of(model, spec.signature), request.inputs.keys())
    inputs = {}
    for name, tensor in request.inputs.items():
        try:
            inputs[name] = tensors.array(tensor)
        except Invalid as error:
            raise invalid(f"tensor parsing error: {name}") from error
    answer = dataplane.call(model, spec.signature, inputs, request.output_filter)
    response = wire.PredictResponse()
    fill_spec(response.model_spec, spec.name, answer.version, answer.signature)
    for name, values in answer.outputs.items():
        fill(response.outputs[name], values)
    return response


def metadata(models: Models, request: wire.GetModelMetadataRequest) -> wire.GetModelMetadataResponse:
    """PredictionService.GetModelMetadata. Raises StatusError."""
    spec = _spec(request)
    version, definitions = dataplane.metadata(models, spec, request.metadata_field)
    response = wire.GetModelMetadataResponse()
    fill_spec(response.model_spec, spec.name, version, "")
    packed = response.metadata[SIGNATURE_DEF]
    packed.type_url = SIGNATURE_DEF_MAP
    packed.value = wire.SignatureDefMap(signature_def=definitions).SerializeToString()
    return response


def status(models: Models, request: wire.GetModelStatusRequest) -> wire.GetModelStatusResponse:
    """ModelService.GetModelStatus. Raises StatusError."""
    return status_message(dataplane.status(models, _spec(request)))


def status_message(statuses: list[VersionStatus]) -> wire.GetModelStatusResponse:
    """Version statuses as the protocol's message."""
    response = wire.GetModelStatusResponse()
    for each in statuses:
        entry = response.model_version_status.add(version=each.version, state=each.state.name)
        entry.status.CopyFrom(wire.StatusProto(error_code=each.code.name, error_message=each.message))
    return response


def _spec(request: Any) -> Spec:
    if not request.HasField("model_spec"):
        raise invalid(MISSING_SPEC)
    return _spec_of(request.model_spec)


def _spec_of(given: wire.ModelSpec) -> Spec:
    version = given.version.value if given.HasField("version") else None
    return Spec(given.name, version, given.version_label, given.signature_name)


def fill_spec(spec: wire.ModelSpec, name: str, version: int, signature: str) -> None:
    """Say in an answer which model, version and signature gave it."""
    spec.name = name
    spec.version.value = version
    spec.signature_name = signature


def classify(models: Models, request: wire.ClassificationRequest) -> wire.ClassificationResponse:
    """PredictionService.Classify. Raises StatusError."""
    spec = _spec(request)
    found = inference.classify(models, spec, examples.serialized(request.input))
    response = wire.ClassificationResponse()
    fill_spec(response.model_spec, spec.name, found.version, found.signature)
    fill_classes(response.result, found)
    return response


def regress(models: Models, request: wire.RegressionRequest) -> wire.RegressionResponse:
    """PredictionService.Regress. Raises StatusError."""
    spec = _spec(request)
    found = inference.regress(models, spec, examples.serialized(request.input))
    response = wire.RegressionResponse()
    fill_spec(response.model_spec, spec.name, found.version, found.signature)
    fill_values(response.result, found)
    return response


def multi_inference(models: Models, request: wire.MultiInferenceRequest) -> wire.MultiInferenceResponse:
    """PredictionService.MultiInference. Raises StatusError."""
    tasks = [Task(_spec_of(task.model_spec), task.method_name) for task in request.tasks]
    response = wire.MultiInferenceResponse()
    for task, found in zip(tasks, inference.multi(models, tasks, examples.serialized(request.input)), strict=True):
        result = response.results.add()
        fill_spec(result.model_spec, task.spec.name, found.version, found.signature)
        if isinstance(found, Classified):
            fill_classes(result.classification_result, found)
        else:
            fill_values(result.regression_result, found)
    return response


def fill_classes(result: wire.ClassificationResult, found: Classified) -> None:
    """Write classes and scores into an empty message."""
    for labels, scores in zip(found.labels, found.scores.tolist(), strict=True):
        classes = result.classifications.add().classes
        for label, score in zip(labels, scores, strict=True):
            classes.add(label=label, score=score)


def fill_values(result: wire.RegressionResult, found: Regressed) -> None:
    """Write values into an empty message."""
    for value in found.values.tolist():
        result.regressions.add(value=value)


def reload(models: Models, request: wire.ReloadConfigRequest, goes_on: Goes) -> wire.ReloadConfigResponse:
    """ModelService.HandleReloadConfigRequest: answers once every new model is served. Raises StatusError."""
    if request.config.WhichOneof("config") != "model_config_list":
        raise invalid(UNSUPPORTED_CONFIG)
    models.reload(request.config)(goes_on)
    return wire.ReloadConfigResponse(status=wire.StatusProto(error_code=Code.OK.name))


def _at_once(answer: Callable[[Models, Any], Any]) -> Callable[[Models, Any, Goes], Any]:
    return lambda models, request, _: answer(models, request)


CALLS: Final = (
    Call(PREDICTION_SERVICE, "Predict", wire.PredictRequest, wire.PredictResponse, _at_once(predict)),
    Call(PREDICTION_SERVICE, "Classify", wire.ClassificationRequest, wire.ClassificationResponse, _at_once(classify)),
    Call(PREDICTION_SERVICE, "Regress", wire.RegressionRequest, wire.RegressionResponse, _at_once(regress)),
    Call(
        PREDICTION_SERVICE,
        "MultiInference",
        wire.MultiInferenceRequest,
        wire.MultiInferenceResponse,
        _at_once(multi_inference),
    ),
    Call(
        PREDICTION_SERVICE,
        "GetModelMetadata",
        wire.GetModelMetadataRequest,
        wire.GetModelMetadataResponse,
        _at_once(metadata),
    ),
    Call(MODEL_SERVICE, "GetModelStatus", wire.GetModelStatusRequest, wire.GetModelStatusResponse, _at_once(status)),
    Call(MODEL_SERVICE, "HandleReloadConfigRequest", wire.ReloadConfigRequest, wire.ReloadConfigResponse, reload),
)
CONTENT_CALLS: Final = tuple(
    replace(call, answer=_at_once(partial(predict, fill=tensors.fill))) if call.name == "Predict" else call
    for call in CALLS
)
"""The same, whose answers hold numbers as `tensor_content`."""
