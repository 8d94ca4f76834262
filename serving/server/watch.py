"""Watches every call from outside: counts it, takes its time, and offers it to the model's request log.

What answers a call knows nothing of this. The transports open a call here; a version's signatures are wrapped when it
is loaded, and find in the context which call they run for.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

from serving import wire_pb2 as wire
from serving.server import log_records
from serving.server.caller import WAITS, Waits
from serving.server.config import Wanted
from serving.server.model import Arrays, Model, Signature
from serving.server.monitoring import Monitoring
from serving.server.request_log import RequestLog, request_log
from serving.server.status import Code, StatusError

LOGGED: Final = {
    "Predict": "predict_log",
    "Classify": "classify_log",
    "Regress": "regress_log",
    "MultiInference": "multi_inference_log",
}
"""The calls that are counted, and the field of a log record that holds each."""

OF_EXAMPLES: Final = frozenset(LOGGED) - {"Predict"}
RUNTIME: Final = "TF1"
"""What TensorFlow Serving calls the runtime of a SavedModel."""


@dataclass(slots=True)
class _Call:
    """The call that is being answered, and whether its examples were counted: it may run several signatures on them."""

    model_name: str
    api: str
    counted: bool


_CALL: ContextVar[_Call | None] = ContextVar("call", default=None)


class Watch:
    """The counts and the request logs of one server.

    known: whether a model of that name was ever to be served. Calls for any other name are counted under no name, so
    that strangers cannot fill the memory with names.
    """

    def __init__(self, monitoring: Monitoring, known: Callable[[str], bool] = lambda name: True) -> None:
        self.monitoring = monitoring
        self._known = known
        self._logs: dict[str, tuple[wire.LoggingConfig, RequestLog]] = {}

    @contextmanager
    def call(self, model_name: str, api: str, entrypoint: str, waits: Waits = lambda: True) -> Iterator[None]:
        """A call while it is answered; what api it is may be any, and those that ask no model are not counted.

        waits: tells whether the caller still waits.
        """
        if api not in LOGGED:
            yield
            return
        name = model_name if self._known(model_name) else ""
        begun = time.perf_counter_ns()
        waiting = WAITS.set(waits)
        token = _CALL.set(_Call(name, api, counted=api not in OF_EXAMPLES))
        code = Code.INTERNAL
        try:
            yield
            code = Code.OK
            self.monitoring.request_latency.add(_micros_since(begun), name, api, entrypoint)
        except StatusError as error:
            code = error.code
            raise
        finally:
            _CALL.reset(token)
            WAITS.reset(waiting)
            self.monitoring.request_count.add(name, code.name)

    def watched(self, model: Model) -> Model:
        """A version, the runs of whose signatures are timed."""
        return replace(model, signatures={name: self._timed(each) for name, each in model.signatures.items()})

    def _timed(self, signature: Signature) -> Signature:
        def run(inputs: Arrays) -> Arrays:
            begun = time.perf_counter_ns()
            outputs = signature.run(inputs)
            if (call := _CALL.get()) is not None:
                self.monitoring.runtime_latency.add(_micros_since(begun), call.model_name, call.api, RUNTIME)
                if not call.counted:
                    call.counted = True
                    rows = max((len(values) for values in inputs.values() if values.ndim), default=0)
                    self.monitoring.request_example_counts.add(rows, call.model_name)
                    self.monitoring.request_example_count_total.add(call.model_name, count=rows)
            return outputs

        return replace(signature, run=run)

    def update_logs(self, wanted: Sequence[Wanted]) -> None:
        """Begin and end request logs as a configuration says."""
        told = {each.name: each.logging for each in wanted if each.logging is not None}
        for name, (config, log) in list(self._logs.items()):
            if told.get(name) != config:
                del self._logs[name]
                log.close()
        for name, config in told.items():
            if name not in self._logs and (begun := request_log(name, config, self.monitoring)) is not None:
                self._logs[name] = (config, begun)

    def close(self) -> None:
        """End all request logs."""
        self.update_logs(())

    def keep(self, model_name: str, version: int, made: Callable[[], wire.PredictionLog]) -> None:
        """Offer an answered call to the model's request log; `made` gives the record later, in another thread."""
        if (found := self._logs.get(model_name)) is not None:
            found[1].offer(version, made)

    def keep_messages(self, api: str, request: Any, response: Any) -> None:
        """Offer an answered call's own messages."""
        if self._logs and api in LOGGED:
            spec = (response.results[0] if api == "MultiInference" else response).model_spec
            self.keep(spec.name, spec.version.value, lambda: log_records.of_messages(LOGGED[api], request, response))


def model_name_of(request: Any) -> str:
    """The model that a request message is for."""
    spec = request.tasks[0].model_spec if hasattr(request, "tasks") and request.tasks else None
    return str((spec or request.model_spec).name) if spec or hasattr(request, "model_spec") else ""


def _micros_since(begun: int) -> int:
    return (time.perf_counter_ns() - begun) // 1000
