"""Answers a version's warm-up requests before anybody else asks it; one that it cannot answer refuses the version."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from plumbline.errors import Invalid
from serving import warmup
from serving import wire_pb2 as wire
from serving.server import grpc_calls
from serving.server.model import Model
from serving.server.models import Models
from serving.server.monitoring import Monitoring
from serving.server.status import Code, StatusError

CALLS: Final[Mapping[str, Callable[[Models, Any], Any]]] = {
    "predict_log": grpc_calls.predict,
    "classify_log": grpc_calls.classify,
    "regress_log": grpc_calls.regress,
    "multi_inference_log": grpc_calls.multi_inference,
}
"""How the request in each kind of log record is answered."""


class _Alone:
    """The version that is warmed up, whatever model, version or label a request names: it is not served yet."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def versions(self, name: str) -> "_Alone":
        return self

    def loaded(self, version: int | None = None) -> Model:
        return self._model

    def labelled(self, name: str, label: str) -> int:
        return self._model.version


def warm_up(model: Model, folder: Path, monitoring: Monitoring) -> int:
    """Answer every warm-up request of a version's folder; returns how many there were.

    Raises StatusError when the file is broken, or a request cannot be answered.
    """
    started = time.monotonic_ns()
    path = folder / warmup.FILE
    if not path.exists():
        return 0
    status = Code.OK
    count = 0
    try:
        for log in warmup.read(folder):
            _answer(model, log)
            count += 1
    except Invalid as error:
        status = Code.INVALID_ARGUMENT if error.field == "number" else Code.DATA_LOSS
        raise StatusError(status, _text(error, path)) from error
    except StatusError as error:
        status = error.code
        raise StatusError(status, f"{folder}: warm-up request {count} cannot be answered: {error.message}") from error
    finally:
        micros = (time.monotonic_ns() - started) // 1000
        monitoring.model_warmup_latency.add(micros, str(folder), status.name)
    return count


def _answer(model: Model, log: wire.PredictionLog) -> None:
    kind = log.WhichOneof("log_type")
    if kind not in CALLS:
        raise StatusError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind or 'none'}")
    request = getattr(log, kind).request
    for asked in request.tasks if kind == "multi_inference_log" else [request]:
        asked.model_spec.name = asked.model_spec.name or "warm-up"  # TensorFlow Serving needs no name here
    CALLS[kind](cast(Models, _Alone(model)), request)


_TOO_MANY: Final = f"Number of warmup records exceeds the maximum ({warmup.MAX_RECORDS}) at "


def _text(error: Invalid, path: Path) -> str:
    if error.field == "number":
        return f"{_TOO_MANY}{path}"
    if error.field.startswith("record"):
        return f"Failed to parse warmup record: {error} from {path}"
    return f"{path}: {error}. Please verify your warmup data is in TFRecord format."
