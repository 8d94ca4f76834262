"""gRPC as a transport: a server that holds its port, and for each call the bytes, the code and the text."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import DecodeError

from plumbline.errors import Unready
from serving.server.grpc_calls import CALLS, CONTENT_CALLS, Call
from serving.server.models import Models
from serving.server.status import StatusError, invalid
from serving.server.watch import Watch, model_name_of

log = structlog.get_logger()

WORKERS: Final = 8
WAITING_WORKERS: Final = 64
"""Where calls are merged, each waits in a thread of its own while few threads compute."""
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


def bind(
    models: Models,
    watch: Watch,
    host: str,
    port: int,
    credentials: grpc.ServerCredentials | None = None,
    workers: int = WORKERS,
    tensor_content: bool = False,
) -> tuple[grpc.Server, int]:
    """A server that holds its port and is not yet started, and that port (a free one where 0 is asked for).

    credentials: for TLS, see `serving.server.tls`; workers: most calls that are answered at the same time;
    tensor_content: whether numbers are answered as their own bytes rather than in the field of their type.
    Raises Unready when the port cannot be had.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="grpc")
    server = grpc.server(pool, options=OPTIONS, maximum_concurrent_rpcs=WAITING_MAX_CALLS)
    calls = CONTENT_CALLS if tensor_content else CALLS
    server.add_generic_rpc_handlers(_handlers(models, watch, calls))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError as error:
        raise Unready(
            f"gRPC cannot listen on {address}: stop what uses that port, or choose another with --port"
        ) from error
    return server, bound


def _handlers(models: Models, watch: Watch, calls: Sequence[Call]) -> tuple[grpc.GenericRpcHandler, ...]:
    services: dict[str, dict[str, grpc.RpcMethodHandler]] = {}
    for call in calls:
        services.setdefault(call.service, {})[call.name] = _handler(models, watch, call)
    return tuple(grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items())


def _handler(models: Models, watch: Watch, call: Call) -> grpc.RpcMethodHandler:
    def behaviour(sent: bytes, context: grpc.ServicerContext) -> Any:
        if not context.is_active():  # its caller stopped waiting while it stood in the queue
            context.abort(grpc.StatusCode.CANCELLED, "the caller is gone")
        try:
            request = _parsed(call, sent)
            with watch.call(model_name_of(request), call.name, "GRPC", context.is_active):
                response = call.answer(models, request, context.is_active)
            watch.keep_messages(call.name, request, response)
            return response
        except StatusError as error:
            context.abort(CODES[error.code.value], error.message[:DETAILS_MAX_CHARACTERS])
        except Exception as error:
            log.exception("a request failed", call=call.name)
            context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")

    # The bytes come as they are, since what cannot be parsed is the caller's fault, and gRPC would call it ours.
    return grpc.unary_unary_rpc_method_handler(behaviour, None, call.response.SerializeToString)


def _parsed(call: Call, sent: bytes) -> Any:
    try:
        return call.request.FromString(sent)
    except DecodeError as error:
        raise invalid(f"The request is no {call.request.DESCRIPTOR.name}: {error}") from error
