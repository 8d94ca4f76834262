"""Health and reflection, as generic gRPC tools use them; bytes that are no message."""

import threading
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from serving import wire_pb2 as wire
from serving.server.grpc_calls import CALLS
from serving.server.reflection import STREAMS_MAX
from tests.serving_by_hand import served


@pytest.fixture(scope="module")
def channel(tmp_path_factory):
    with served(tmp_path_factory.mktemp("services")) as running, grpc.insecure_channel(running.target) as opened:
        yield opened


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ModelService",
        "PredictionService",
        "tensorflow.serving.ModelService",
        "tensorflow.serving.PredictionService",
    ],
)
def test_health_is_told_by_the_names_of_tensorflow_serving(channel, name):
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=30)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_health_of_an_unknown_service_is_not_found(channel):
    with pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="Other"), timeout=30)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.fixture(scope="module")
def reflected(channel):
    """A pool that knows only what the server told of itself."""
    database = ProtoReflectionDescriptorDatabase(channel)
    return database, descriptor_pool.DescriptorPool(database)


def test_reflection_lists_the_services_by_their_official_names(reflected):
    assert set(reflected[0].get_services()) == {
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "grpc.reflection.v1alpha.ServerReflection",
        "grpc.health.v1.Health",
    }


def test_a_tool_that_knows_nothing_but_reflection_can_call(channel, reflected):
    _, pool = reflected
    service = pool.FindServiceByName("tensorflow.serving.PredictionService")
    assert {method.name for method in service.methods} == {
        "Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata",
    }  # fmt: skip
    method = service.methods_by_name["Classify"]
    assert method.input_type.full_name == "tensorflow.serving.ClassificationRequest"
    request: Any = message_factory.GetMessageClass(method.input_type)()
    request.model_spec.name = "examples"
    example = request.input.example_list.examples.add()
    assert example.DESCRIPTOR.full_name == "tensorflow.Example"
    example.features.feature["amount"].float_list.value.append(2.5)
    response = message_factory.GetMessageClass(method.output_type)
    answer = channel.unary_unary(
        "/tensorflow.serving.PredictionService/Classify",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=response.FromString,
    )(request, timeout=30)
    (found,) = answer.result.classifications
    assert [(each.label, each.score) for each in found.classes] == [("fraud", 0.25), ("honest", 0.75)]


def test_every_message_is_told_by_its_official_name_with_our_fields(reflected):
    _, pool = reflected
    ours = descriptor_pb2.FileDescriptorProto()
    wire.DESCRIPTOR.CopyToProto(ours)
    framework = {"TensorProto", "TensorShapeProto", "TensorInfo", "SignatureDef", "Example", "Features", "Feature"}
    framework |= {"BytesList", "FloatList", "Int64List"}
    for message in ours.message_type:
        package = "tensorflow" if message.name in framework else "tensorflow.serving"
        found = pool.FindMessageTypeByName(f"{package}.{message.name}")
        assert {(each.name, each.number) for each in found.fields} == {(f.name, f.number) for f in message.field}


def test_streams_that_stay_open_do_not_take_the_servers_threads(tmp_path):
    end = threading.Event()

    def questions():
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        end.wait(30)

    with served(tmp_path) as running, grpc.insecure_channel(running.target) as opened:
        stub = reflection_pb2_grpc.ServerReflectionStub(opened)
        streams = [stub.ServerReflectionInfo(questions()) for _ in range(STREAMS_MAX)]
        assert all(next(stream).list_services_response.service for stream in streams)
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.ServerReflectionInfo(questions()))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        health = health_pb2_grpc.HealthStub(opened)
        watching = [health.Watch(health_pb2.HealthCheckRequest(service="")) for _ in range(20)]
        assert {next(each).status for each in watching} == {health_pb2.HealthCheckResponse.SERVING}
        health.Check(health_pb2.HealthCheckRequest(service=""), timeout=30)
        end.set()
        for stream in [*streams, *watching]:
            stream.cancel()


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_bytes_that_are_no_message_are_the_callers_fault(channel, call):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{call.service}/{call.name}")(b"\xff\xff\xff", timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert call.request.DESCRIPTOR.name in caught.value.details()


def test_a_method_that_is_not_there_is_unimplemented(channel):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/tensorflow.serving.PredictionService/PredictStreamed")(b"", timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
