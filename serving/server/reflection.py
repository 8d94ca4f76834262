"""Server reflection: tools such as grpcurl learn the services and messages from the server itself.

They must learn the official names. So our own messages' descriptors are rewritten into the official packages, in a pool
of its own, beside which the classes that the server itself uses stay as they are.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, wrappers_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from serving import wire_pb2 as wire
from serving.methods import MODEL_SERVICE, PREDICTION_SERVICE
from serving.server.grpc_calls import CALLS

OURS: Final = wire.DESCRIPTOR.package
FRAMEWORK: Final = "tensorflow"
SERVING: Final = "tensorflow.serving"
FRAMEWORK_TYPES: Final = frozenset(
    "TensorProto TensorShapeProto DataType TensorInfo SignatureDef "
    "Example Features Feature BytesList FloatList Int64List".split()
)
"""The messages of TensorFlow itself; all others are TensorFlow Serving's."""
EXAMPLE_FIELDS: Final = frozenset(
    {("ExampleList", "examples"), ("ExampleListWithContext", "examples"), ("ExampleListWithContext", "context")}
)
"""Fields that we keep as bytes, unread, and that officially are messages."""


STREAMS_MAX: Final = 2
"""Each stream holds one of the server's threads while it is open: more at once are refused."""


class Reflection(reflection.ReflectionServicer):
    """The package's own service, for a few at a time."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names, official_pool())
        self._room = threading.BoundedSemaphore(STREAMS_MAX)

    def ServerReflectionInfo(  # noqa: N802 # the service's name for it
        self, requests: Iterator[Any], context: grpc.ServicerContext
    ) -> Iterator[Any]:
        """Answer a stream of questions."""
        if not self._room.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{STREAMS_MAX} streams are open: end one of them")
        try:
            yield from super().ServerReflectionInfo(requests, context)
        finally:
            self._room.release()


def add(server: grpc.Server, health: bool) -> None:
    """Let a server that is not yet started answer reflection; health: whether it has the health service too."""
    names = [PREDICTION_SERVICE, MODEL_SERVICE, reflection.SERVICE_NAME]
    if health:
        names.append(health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(Reflection(names), server)


def official_pool() -> descriptor_pool.DescriptorPool:
    """A pool that knows the services and their messages by their official names."""
    pool = descriptor_pool.DescriptorPool()
    for needed in (any_pb2, wrappers_pb2, health_pb2, reflection_pb2):
        pool.AddSerializedFile(needed.DESCRIPTOR.serialized_pb)
    for file in official_files():
        pool.Add(file)
    return pool


def official_files() -> tuple[descriptor_pb2.FileDescriptorProto, descriptor_pb2.FileDescriptorProto]:
    """TensorFlow's messages, and TensorFlow Serving's with its services."""
    ours = descriptor_pb2.FileDescriptorProto()
    wire.DESCRIPTOR.CopyToProto(ours)
    framework = descriptor_pb2.FileDescriptorProto(
        name="tensorflow/core/framework/official.proto", package=FRAMEWORK, syntax="proto3"
    )
    serving = descriptor_pb2.FileDescriptorProto(
        name="tensorflow_serving/apis/official.proto",
        package=SERVING,
        syntax="proto3",
        dependency=[framework.name, *ours.dependency],
    )
    for enum in ours.enum_type:
        (framework if enum.name in FRAMEWORK_TYPES else serving).enum_type.add().CopyFrom(enum)
    for message in ours.message_type:
        _rename(message)
        (framework if message.name in FRAMEWORK_TYPES else serving).message_type.add().CopyFrom(message)
    for name in (PREDICTION_SERVICE, MODEL_SERVICE):
        service = serving.service.add(name=name.removeprefix(f"{SERVING}."))
        for call in CALLS:
            if call.service == name:
                request, response = (_official(part.DESCRIPTOR.name) for part in (call.request, call.response))
                service.method.add(name=call.name, input_type=request, output_type=response)
    return framework, serving


def _rename(message: descriptor_pb2.DescriptorProto) -> None:
    for field in message.field:
        if (message.name, field.name) in EXAMPLE_FIELDS:
            field.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
            field.type_name = _official("Example")
        elif field.type_name.startswith(f".{OURS}."):
            field.type_name = _official(field.type_name.removeprefix(f".{OURS}."))
    for nested in message.nested_type:
        _rename(nested)


def _official(name: str) -> str:
    """The full official name of one of our messages, or of one inside it."""
    package = FRAMEWORK if name.partition(".")[0] in FRAMEWORK_TYPES else SERVING
    return f".{package}.{name}"
