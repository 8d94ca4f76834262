"""The decision API's gRPC in this process: the same answers and refusals as HTTP's, in the protocol's own words."""

import json
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from app.api import decisions_pb2 as wire
from app.api.compile_proto import PACKAGE, messages
from app.api.grpc_edge import PROBLEM, SERVICE, fields_of, serve
from plumbline import transaction as language
from plumbline.errors import Unready
from tests.api_parts import ApiParts
from tests.fakes import NOW, payment, raw


@pytest.fixture
def parts(tmp_path):
    made = ApiParts(tmp_path)
    yield made
    made.close()


@pytest.fixture
def missing():
    return []


@pytest.fixture
def channel(parts, missing):
    server, port = serve(
        parts.decisions, parts.gate, parts.deadlines, parts.metrics, lambda: "".join(missing), "127.0.0.1:0", 8
    )
    with grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    server.stop(0).wait()


@pytest.fixture
def call(channel, parts):
    def ask(method, request, timeout=5, key=parts.key):
        stub = channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=wire.Answer.FromString,
        )
        return stub(request, timeout=timeout, metadata=[("authorization", f"Bearer {key}")] if key else [])

    return ask


def paid(number, **changes):
    return wire.DecideRequest(transaction=wire.Transaction(**payment(number, **changes)))


def refusal(call, *arguments, **options):
    with pytest.raises(grpc.RpcError) as failed:
        call(*arguments, **options)
    trailing = dict(failed.value.trailing_metadata())
    return failed.value.code(), json.loads(trailing[PROBLEM]), failed.value.details()


def test_a_decision_is_the_journals_bytes_and_what_was_written_is_what_http_writes(call, parts):
    answer = call("Decide", paid(1))
    journaled = parts.board.find("t1")
    assert answer == wire.Answer(
        transaction_id="t1", outcome=wire.APPROVE, decided=True, sequence=0, decision_json=journaled.raw
    )
    assert parts.kafka.taken == [language.encode(language.parse(raw(payment(1)), NOW))]
    assert call("Get", wire.GetRequest(transaction_id="t1")) == answer
    http = parts.app().test_client().post(
        "/v1/decisions", data=raw(payment(1)), content_type="application/json",
        headers={"Authorization": f"Bearer {parts.key}"},
    )  # fmt: skip
    assert json.dumps(http.get_json()["decision"], separators=(",", ":")).encode() == answer.decision_json


def test_a_call_that_may_wait_so_long_has_the_fallback_before_its_deadline(call, parts):
    parts.kafka.decides = False
    answer = call("Decide", paid(1), timeout=0.3)  # past it the call would raise DEADLINE_EXCEEDED
    assert (answer.outcome, answer.decided, answer.fallback) == (wire.REVIEW, False, True)
    assert answer.fallback_reason == "deadline"
    assert not answer.HasField("sequence")
    timer = threading.Timer(0.05, parts.kafka.decide, ("t1",))
    timer.start()
    assert call("Decide", paid(1)).decided
    timer.join()
    assert len(parts.kafka.taken) == 1


def test_fields_that_are_not_given_are_missing_and_nothing_else_is(call, parts):
    whole = payment(1)
    assert json.loads(fields_of(paid(1).transaction)) == whole
    zero = wire.Transaction(transaction_id="t", amount_minor=0, device_id="")
    assert json.loads(fields_of(zero)) == {"transaction_id": "t", "device_id": "", "amount_minor": 0}
    del whole["amount_minor"]
    code, problem, details = refusal(
        call, "Decide", wire.DecideRequest(transaction=wire.Transaction(**whole))
    )  # fmt: skip
    assert (code, problem["field"]) == (grpc.StatusCode.INVALID_ARGUMENT, "amount_minor")
    assert details == problem["detail"]
    assert parts.kafka.taken == []


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (wire.DecideRequest(), "transaction_id"),
        (paid(1, amount_minor=-1), "amount_minor"),
        (paid(1, currency="euro"), "currency"),
        (paid(1, transaction_id="a b"), "transaction_id"),
        (paid(1, longitude_e6=None), "longitude_e6"),
        (paid(1, merchant_id="m" * 5000), "record"),
    ],
)
def test_bad_input_is_told_as_by_http(call, parts, request_, field):
    code, problem, _ = refusal(call, "Decide", request_)
    assert (code, problem["field"], problem["status"]) == (grpc.StatusCode.INVALID_ARGUMENT, field, 400)
    assert parts.kafka.taken == []


def test_refusals_have_the_protocols_codes(call, parts):
    status = grpc.StatusCode
    assert refusal(call, "Decide", paid(1), key="")[0] is status.UNAUTHENTICATED
    reader = parts.add_key("reader", ("decisions:read",))
    assert refusal(call, "Decide", paid(1), key=reader)[0] is status.PERMISSION_DENIED
    assert refusal(call, "Get", wire.GetRequest(transaction_id="nobody"))[0] is status.NOT_FOUND
    call("Decide", paid(1))
    code, problem, _ = refusal(call, "Decide", paid(1, amount_minor=7))
    assert (code, problem["first"]["outcome"]) == (status.ALREADY_EXISTS, "approve")
    assert "decision" not in problem["first"], "it must fit a header"
    parts.kafka.down = True
    assert refusal(call, "Decide", paid(2))[0] is status.UNAVAILABLE
    parts.kafka.down, parts.kafka.taken = False, None
    code, _, details = refusal(call, "Decide", paid(3))
    assert (code, "NoneType" in details) == (status.INTERNAL, False)


def test_rates_are_counted_over_both_transports(tmp_path):
    parts = ApiParts(tmp_path, requests_per_second=2)
    server, port = serve(parts.decisions, parts.gate, parts.deadlines, parts.metrics, lambda: "", "127.0.0.1:0", 4)
    try:
        client = parts.app().test_client()
        headers = {"Authorization": f"Bearer {parts.key}"}
        assert client.get("/v1/decisions/t1", headers=headers).status_code == 404
        assert client.get("/v1/decisions/t1", headers=headers).status_code == 404
        with grpc.insecure_channel(f"127.0.0.1:{port}") as opened, pytest.raises(grpc.RpcError) as failed:
            opened.unary_unary(f"/{SERVICE}/Get")(b"", timeout=5, metadata=[("authorization", f"Bearer {parts.key}")])
        assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    finally:
        server.stop(0).wait()
        parts.close()


def test_health_follows_readiness_and_reflection_names_the_service(channel, missing):
    stub = health_pb2_grpc.HealthStub(channel)
    asked = health_pb2.HealthCheckRequest(service=SERVICE)
    serving = health_pb2.HealthCheckResponse
    assert stub.Check(asked, timeout=5).status == serving.SERVING
    missing.append("journal")
    assert stub.Check(asked, timeout=5).status == serving.NOT_SERVING
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)
    (found,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]), timeout=5)
    assert wire.DESCRIPTOR.serialized_pb in found.file_descriptor_response.file_descriptor_proto


def test_a_port_that_is_taken_is_one_sentence(channel, parts):
    server, port = serve(parts.decisions, parts.gate, parts.deadlines, parts.metrics, lambda: "", "127.0.0.1:0", 2)
    try:
        with pytest.raises(Unready, match="choose another with --grpc-port"):
            serve(parts.decisions, parts.gate, parts.deadlines, parts.metrics, lambda: "", f"127.0.0.1:{port}", 2)
    finally:
        server.stop(0).wait()


def test_the_generated_messages_are_not_stale():
    for name, text in messages().items():
        assert (PACKAGE / name).read_text() == text, f"{name} differs from its source: run `make proto`"
