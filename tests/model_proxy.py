"""A gRPC proxy before a model server, which can hold back what is asked of one version."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from serving import wire_pb2 as wire
from serving.methods import PREDICT


class ModelProxy:
    """Hands every call on as it is; calls to versions in `held` wait until the proxy ends or the caller gives up."""

    def __init__(self, target: str) -> None:
        self.held: set[int] = set()
        self.asked = threading.Semaphore(0)
        self._ended = threading.Event()
        self._channel = grpc.insecure_channel(target)
        self._server = grpc.server(ThreadPoolExecutor(32))
        self._server.add_generic_rpc_handlers((self,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    @property
    def target(self) -> str:
        """host:port of the proxy."""
        return f"127.0.0.1:{self.port}"

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """The handler of a call, whatever its name."""
        onward = self._channel.unary_unary(details.method)

        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            if details.method == PREDICT:
                version = wire.PredictRequest.FromString(request).model_spec.version.value
                if version in self.held:
                    self.asked.release()
                    self._ended.wait(context.time_remaining())
            try:
                answer: bytes = onward(request, timeout=context.time_remaining())
                return answer
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
                raise

        return grpc.unary_unary_rpc_method_handler(handle)

    def __enter__(self) -> "ModelProxy":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.stop(0).wait()
        self._channel.close()
