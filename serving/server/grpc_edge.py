"""gRPC to the data plane and back: PredictionService (Predict, GetModelMetadata) and ModelService (GetModelStatus)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
import structlog

from plumbline.errors import Invalid, Unready
from serving import tensors
from serving import wire_pb2 as wire
from serving.methods import MODEL_SERVICE, PREDICTION_SERVICE, SIGNATURE_DEF, SIGNATURE_DEF_MAP
from serving.server import dataplane
from serving.server.dataplane import Models, Spec
from serving.server.status import MISSING_SPEC, StatusError, invalid
from serving.server.versions import VersionStatus

log = structlog.get_logger()

WORKERS: Final = 8
WAITING_MAX_CALLS: Final = 256
"""More calls at once are refused with RESOURCE_EXHAUSTED, so that memory stays bounded."""
MESSAGE_MAX_BYTES: Final = 256 * 1024 * 1024
DETAILS_MAX_CHARACTERS: Final = 2000
"""A status travels in a header, and headers of more than 8 KiB are refused on the way."""
CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a second server on the same port is a mistake, and must be told so
    ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
    ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
)


def bind(models: Models, host: str, port: int) -> tuple[grpc.Server, int]:
    """A server that holds its port and is not yet started, and that port (a free one where 0 is asked for).

    Raises Unready when the port cannot be had.
    """
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="grpc")
    server = grpc.server(pool, options=OPTIONS, maximum_concurrent_rpcs=WAITING_MAX_CALLS)
    server.add_generic_rpc_handlers(_handlers(models))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as error:
        raise Unready(
            f"gRPC cannot listen on {address}: stop what uses that port, or choose another with --port"
        ) from error
    return server, bound


def _handlers(models: Models) -> tuple[grpc.GenericRpcHandler, ...]:
    def handler(answer: Callable[[Models, Any], Any], request: Any, response: Any) -> Any:
        def behaviour(message: Any, context: grpc.ServicerContext) -> Any:
            if not context.is_active():  # its caller stopped waiting while it stood in the queue
                context.abort(grpc.StatusCode.CANCELLED, "the caller is gone")
            try:
                return answer(models, message)
            except StatusError as error:
                context.abort(CODES[error.code.value], error.message[:DETAILS_MAX_CHARACTERS])
            except Exception as error:
                log.exception("a request failed", request=type(message).__name__)
                context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")

        return grpc.unary_unary_rpc_method_handler(
            behaviour, request_deserializer=request.FromString, response_serializer=response.SerializeToString
        )

    prediction = {
        "Predict": handler(predict, wire.PredictRequest, wire.PredictResponse),
        "GetModelMetadata": handler(metadata, wire.GetModelMetadataRequest, wire.GetModelMetadataResponse),
    }
    model = {"GetModelStatus": handler(status, wire.GetModelStatusRequest, wire.GetModelStatusResponse)}
    return (
        grpc.method_handlers_generic_handler(PREDICTION_SERVICE, prediction),
        grpc.method_handlers_generic_handler(MODEL_SERVICE, model),
    )


def predict(models: Models, request: wire.PredictRequest) -> wire.PredictResponse:
    """PredictionService.Predict. Raises StatusError."""
    spec = _spec(request)
    inputs = {}
    for name, tensor in request.inputs.items():
        try:
            inputs[name] = tensors.array(tensor)
        except Invalid as error:
            raise invalid(f"tensor parsing error: {name}") from error
    answer = dataplane.predict(models, spec, inputs, request.output_filter)
    response = wire.PredictResponse()
    _fill_spec(response.model_spec, spec.name, answer.version, answer.signature)
    for name, values in answer.outputs.items():
        tensors.fill(response.outputs[name], values)
    return response


def metadata(models: Models, request: wire.GetModelMetadataRequest) -> wire.GetModelMetadataResponse:
    """PredictionService.GetModelMetadata. Raises StatusError."""
    spec = _spec(request)
    version, definitions = dataplane.metadata(models, spec, request.metadata_field)
    response = wire.GetModelMetadataResponse()
    _fill_spec(response.model_spec, spec.name, version, "")
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
    given: wire.ModelSpec = request.model_spec
    version = given.version.value if given.HasField("version") else None
    return Spec(given.name, version, given.version_label, given.signature_name)


def _fill_spec(spec: wire.ModelSpec, name: str, version: int, signature: str) -> None:
    spec.name = name
    spec.version.value = version
    spec.signature_name = signature
