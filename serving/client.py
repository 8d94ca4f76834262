"""Asks a model server for scores: the embedded one, or TensorFlow Serving, without a change.

Every call has a deadline and at most one retry, so that the caller knows within twice the deadline whether it has an
answer; one that cannot wait asks once. Every way of having none is ModelUnavailable: the caller then decides by rules
and review, and asks again with the next batch. TensorFlow is never imported here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

import grpc
import numpy as np
import numpy.typing as npt

from plumbline.errors import Invalid, ModelRefused, ModelTimedOut, ModelUnavailable
from serving import tensors
from serving import wire_pb2 as wire
from serving.columns import NAMES, ModelColumns
from serving.effects import incomplete
from serving.methods import DEFAULT_SIGNATURE, GET_MODEL_STATUS, PREDICT

Float32 = npt.NDArray[np.float32]

TRIES: Final = 2

MESSAGE_MAX_BYTES: Final = 256 * 1024 * 1024

CHANNEL_OPTIONS: Final = (
    # A server that comes back is found again within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # what one attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A peer that vanished without a word: bytes it leaves unacknowledged for five seconds end the connection. No ping
    # is sent while no call is open, since a server may take such pings for abuse.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
    ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
    # A model server is a neighbour, never behind the proxy that the environment names for the internet.
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
)

FINAL_CODES: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""The server understood and said no: the same request would get the same answer. Everything else is tried once more."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of n transactions, float32 [n] in [0, 1], and the version of the model that gave them."""

    values: Float32
    model_version: int


@dataclass(frozen=True, slots=True)
class About:
    """The fingerprint of the feature declaration inside the served model, that declaration as JSON, and the version."""

    fingerprint: str
    declaration: bytes
    model_version: int


def open_channel(target: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    """A connection to a model server, which is made when it is first used; credentials: for TLS, None: without."""
    if credentials is None:
        return grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
    return grpc.secure_channel(target, credentials, options=CHANNEL_OPTIONS)


class ModelClient:
    """A connection to one model on one server; it may be shared by threads, and reconnects by itself.

    target: host:port of the server's gRPC endpoint; deadline_ms: of each try, of which there are at most two;
    credentials: for TLS, see `serving.channel_tls`; None: without TLS.
    """

    def __init__(
        self, target: str, model_name: str, deadline_ms: int, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        self.target = target
        self.model_name = model_name
        self.deadline_ms = deadline_ms
        self._channel = open_channel(target, credentials)
        self._predict = self._channel.unary_unary(
            PREDICT,
            request_serializer=wire.PredictRequest.SerializeToString,
            response_deserializer=wire.PredictResponse.FromString,
        )
        self._status = self._channel.unary_unary(
            GET_MODEL_STATUS,
            request_serializer=wire.GetModelStatusRequest.SerializeToString,
            response_deserializer=wire.GetModelStatusResponse.FromString,
        )

    def score(self, columns: ModelColumns, version: int | None = None, *, tries: int = TRIES) -> Scored:
        """Scores by the newest version, or by the one given; exact float32, as the server computed them.

        tries: 1 or 2. Raises ModelRefused when the server says no, ModelTimedOut when the last try met the deadline,
        ModelUnavailable after any other failure, and when an answer is no probability for every row.
        """
        answer = self._call(DEFAULT_SIGNATURE, _inputs(columns), version, tries)
        values = self._output(answer, "score", np.dtype(np.float32), (len(columns),))
        if not np.all((values >= 0) & (values <= 1)):
            wrong = values[~((values >= 0) & (values <= 1))][0]
            raise ModelUnavailable(f"{self._named(answer)} gave the score {wrong}: expected 0 to 1")
        return Scored(values, answer.model_spec.version.value)

    def explain(self, columns: ModelColumns, version: int | None = None, *, tries: int = TRIES) -> Float32:
        """What each declared feature added to the logit of the score, float32 [n, F], in the declaration's order.

        Raises ModelUnavailable after the last try, and when a row's effects do not add up to its logit less the
        baseline's.
        """
        answer, single = self._call("explain", _inputs(columns), version, tries), np.dtype(np.float32)
        effects = self._output(answer, "effects", single, (len(columns), None))
        logits = [self._output(answer, name, single, (len(columns),)) for name in ("logit", "baseline_logit")]
        if (worst := incomplete(effects, *logits)) > 1:
            raise ModelUnavailable(
                f"{self._named(answer)} gave effects that miss the logit by {worst:.3g} times what is allowed"
            )
        return effects

    def transform(
        self, columns: ModelColumns, names: Sequence[str], version: int | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """The named features of n transactions, each float32 or int64 [n].

        Raises ModelUnavailable after one retry, or when a feature is missing or has another shape or type.
        """
        answer = self._call("transform", _inputs(columns), version)
        kinds = {name: np.dtype(np.int64 if _is_int64(answer, name) else np.float32) for name in names}
        return {name: self._output(answer, name, kind, (len(columns),)) for name, kind in kinds.items()}

    def about(self, version: int | None = None, *, tries: int = TRIES) -> About:
        """What the served model was trained under. Raises ModelUnavailable after the last try."""
        answer = self._call("about", {"ping": np.zeros(1, np.int64)}, version, tries)
        fingerprint = self._output(answer, "fingerprint", np.dtype(object), ()).item()
        declaration = self._output(answer, "declaration", np.dtype(object), ()).item()
        return About(fingerprint.decode("ascii", "replace"), declaration, answer.model_spec.version.value)

    def states(self) -> dict[int, str]:
        """State of every version that the server knows of this model, such as `AVAILABLE`, by version.

        Raises ModelUnavailable after one retry, and when the server knows no such model.
        """
        request = wire.GetModelStatusRequest(model_spec=wire.ModelSpec(name=self.model_name))
        answer = self._tried(self._status, request)
        return {each.version: wire.ModelVersionStatus.State.Name(each.state) for each in answer.model_version_status}

    def close(self) -> None:
        """End the connection; calls under way fail."""
        self._channel.close()

    def __enter__(self) -> "ModelClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(
        self, signature: str, inputs: Mapping[str, Any], version: int | None, tries: int = TRIES
    ) -> wire.PredictResponse:
        request = wire.PredictRequest()
        request.model_spec.name = self.model_name
        request.model_spec.signature_name = signature
        if version is not None:
            request.model_spec.version.value = version
        for name, values in inputs.items():
            tensors.fill(request.inputs[name], values)
        answer: wire.PredictResponse = self._tried(self._predict, request, tries)
        return answer

    def _tried(self, method: Any, request: Any, tries: int = TRIES) -> Any:
        """The answer of the first try, or of the second where a fault of the way there ended the first."""
        seconds = self.deadline_ms / 1000
        if tries > 1:
            try:
                return method(request, timeout=seconds)
            except grpc.RpcError as error:
                if error.code() in FINAL_CODES:
                    raise self._unavailable(error, "") from error
        try:
            return method(request, timeout=seconds)
        except grpc.RpcError as error:
            raise self._unavailable(error, " after one retry" if tries > 1 else "") from error

    def _unavailable(self, error: Any, tries: str) -> ModelUnavailable:
        code = error.code()
        kind = ModelTimedOut if code is grpc.StatusCode.DEADLINE_EXCEEDED else ModelUnavailable
        return (ModelRefused if code in FINAL_CODES else kind)(
            f"model {self.model_name} at {self.target} gave no answer{tries}: {code.name}: {error.details()}"
        )

    def _named(self, answer: wire.PredictResponse) -> str:
        return f"model {self.model_name} version {answer.model_spec.version.value} at {self.target}"

    def _output(
        self, answer: wire.PredictResponse, name: str, dtype: np.dtype[Any], shape: Sequence[int | None]
    ) -> npt.NDArray[Any]:
        """One output, checked; a None in shape allows any size."""
        if name not in answer.outputs:
            raise ModelUnavailable(f"{self._named(answer)} answered without the output {name}")
        try:
            values = tensors.array(answer.outputs[name])
        except Invalid as error:
            raise ModelUnavailable(f"{self._named(answer)} gave a broken {name}: {error}") from error
        fits = values.ndim == len(shape) and all(
            want is None or want == size for want, size in zip(shape, values.shape, strict=True)
        )
        if values.dtype != dtype or not fits:
            found = f"{values.dtype} {list(values.shape)}"
            wanted = f"{dtype} {['any' if size is None else size for size in shape]}"
            raise ModelUnavailable(f"{self._named(answer)} gave {name} as {found}: expected {wanted}")
        return values


def _is_int64(answer: wire.PredictResponse, name: str) -> bool:
    return name in answer.outputs and answer.outputs[name].dtype == wire.DT_INT64


def _inputs(columns: ModelColumns) -> dict[str, Any]:
    return {name: getattr(columns, name) for name in NAMES}
