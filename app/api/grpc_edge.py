"""The decision API over gRPC: a thin service around `app.api.core`, with health and reflection."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
import msgspec
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from app.api import decisions_pb2 as wire
from app.api.answer import Answer
from app.api.core import Decisions
from app.api.deadline import Deadlines
from app.api.gate import Gate
from app.api.problems import FAULT, Problem, problem_of
from observe.metrics import Metrics
from plumbline.decision import Outcome
from plumbline.errors import Unready
from plumbline.transaction import RECORD_MAX_BYTES

log = structlog.get_logger()

SERVICE: Final = "plumbline.v1.Decisions"
PROBLEM: Final = "plumbline-problem-bin"
DETAILS_MAX_CHARACTERS: Final = 2000
"""A status travels in a header, and headers of more than 8 KiB are refused on the way."""
MESSAGE_MAX_BYTES: Final = 2 * RECORD_MAX_BYTES

OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a second server on the same port is a mistake, and must be told so
    ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
)
OUTCOMES: Final = {Outcome.APPROVE: wire.APPROVE, Outcome.REVIEW: wire.REVIEW, Outcome.DECLINE: wire.DECLINE}
CODES: Final = {code.name: code for code in grpc.StatusCode}


def serve(
    decisions: Decisions,
    gate: Gate,
    deadlines: Deadlines,
    metrics: Metrics,
    unready: Callable[[], str],
    address: str,
    threads: int,
) -> tuple[grpc.Server, int]:
    """A server that answers, and its port (a free one where the address ends in 0). Raises Unready."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="grpc")
    server = grpc.server(pool, options=OPTIONS, maximum_concurrent_rpcs=threads)
    server.add_generic_rpc_handlers([_handlers(decisions, gate, deadlines, metrics)])
    health_pb2_grpc.add_HealthServicer_to_server(_Health(unready), server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise Unready(
            f"gRPC cannot listen on {address}: stop what uses that port, or choose another with --grpc-port"
        ) from error
    server.start()
    return server, port


def _handlers(decisions: Decisions, gate: Gate, deadlines: Deadlines, metrics: Metrics) -> grpc.GenericRpcHandler:
    def decide(request: Any, context: grpc.ServicerContext) -> Answer:
        begun = time.monotonic()
        answer = decisions.decide(fields_of(request.transaction), deadlines.remaining(context.time_remaining()))
        metrics.histogram("plumbline_api_seconds").labels("grpc").observe(time.monotonic() - begun)
        return answer

    def get(request: Any, _context: grpc.ServicerContext) -> Answer:
        return decisions.get(request.transaction_id)

    def handler(scope: str, work: Callable[[Any, grpc.ServicerContext], Answer], request: Any) -> Any:
        def behaviour(message: Any, context: grpc.ServicerContext) -> Any:
            metadata = dict(context.invocation_metadata())
            requests = metrics.counter("plumbline_api_requests_total")
            try:
                gate.admit(metadata.get("authorization"), scope)
                answer = _message(work(message, context))
            except Exception as error:
                kind, document = problem_of(error)
                if kind is FAULT:
                    log.exception("a call failed", scope=scope)
                requests.labels("grpc", kind.grpc).inc()
                context.set_trailing_metadata(((PROBLEM, _short(document)),))
                context.abort(CODES[kind.grpc], document.detail[:DETAILS_MAX_CHARACTERS])
            requests.labels("grpc", "OK").inc()
            return answer

        return grpc.unary_unary_rpc_method_handler(
            behaviour, request_deserializer=request.FromString, response_serializer=wire.Answer.SerializeToString
        )

    methods = {
        "Decide": handler("decisions:write", decide, wire.DecideRequest),
        "Get": handler("decisions:read", get, wire.GetRequest),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def fields_of(transaction: Any) -> bytes:
    """The fields that were given, as the JSON that the one parser reads."""
    return msgspec.json.encode({field.name: value for field, value in transaction.ListFields()})


def _message(answer: Answer) -> Any:
    return wire.Answer(
        transaction_id=answer.transaction_id,
        outcome=OUTCOMES[answer.outcome],
        decided=answer.decided,
        fallback=answer.fallback,
        fallback_reason=answer.fallback_reason or "",
        sequence=answer.sequence,
        decision_json=b"" if answer.decision is None else bytes(answer.decision),
    )


def _short(document: Problem) -> bytes:
    """A problem document that fits a header: of what was decided first, the outcome and its place in the journal."""
    if document.first is not None:
        document = msgspec.structs.replace(document, first=msgspec.structs.replace(document.first, decision=None))
    return msgspec.json.encode(document)


class _Health(health.HealthServicer):
    """Asked, it looks: serving is who has a producer and has read the journal."""

    def __init__(self, unready: Callable[[], str]) -> None:
        super().__init__()
        self._unready = unready

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - the protocol's name
        response = health_pb2.HealthCheckResponse
        for service in ("", SERVICE):
            self.set(service, response.NOT_SERVING if self._unready() else response.SERVING)
        return super().Check(request, context)
