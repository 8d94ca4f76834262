"""What nobody should send, over both transports: every request gets an answer that blames the caller, and no more.

The models are written by hand, so that thousands of requests take seconds. `test_models_life.py` sends the like to a
server of a real graph, and watches its memory and threads.
"""

import http.client
import json
import socket

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import wire_pb2 as wire
from serving.server.grpc_calls import CALLS
from tests.protobuf_strategies import messages
from tests.serving_by_hand import KINDS, served

OURS_TO_BLAME = {500, 501, 502, 503, 504}
SURE = settings(max_examples=150, database=None)
SIGNATURES = ["", "serving_default", "matrix", "int", "bool", "raw", "regress", "column", "nothing", "scalar", "uneven"]
NAMES = {
    "name": [*KINDS, "x", "y", "a"],
    "signature_name": SIGNATURES,
    "version_label": ["stable", "canary"],
    "key": ["x", "a", "b", "text", "inputs", "amount"],
    "metadata_field": ["signature_def"],
    "output_filter": ["y", "sum"],
    "method_name": ["tensorflow/serving/classify", "tensorflow/serving/regress"],
    "model_platform": ["tensorflow"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(tmp_path_factory.mktemp("fuzz")) as running:
        yield running


@pytest.fixture(scope="module")
def rest(server):
    opened = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.target) as opened:
        yield opened


def ask(connection, method, path, body):
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, response.read()


def blames_nobody_else(connection, method, path, body):
    status, answer = ask(connection, method, path, body)
    assert status not in OURS_TO_BLAME, answer
    if status != 404 or answer[:1] == b"{":
        assert status == 200 or set(json.loads(answer)) == {"error"}


anything = st.characters()  # halves of surrogate pairs too
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(anything, max_size=5)
    | st.builds(lambda text: {"b64": text}, st.text(max_size=6) | st.just("YQ=="))
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["x", "a", "b", "text", "amount"]) | st.text(anything, max_size=3), inner, max_size=3
        )
    ),
    max_leaves=8,
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "signature_name": st.sampled_from(SIGNATURES) | VALUES,
        "inputs": VALUES,
        "instances": st.lists(VALUES, max_size=3) | VALUES,
        "examples": st.lists(VALUES, max_size=3) | VALUES,
        "context": VALUES,
    },
)
WHICH = (
    st.just("")
    | st.just("/versions/1")
    | st.sampled_from(["/versions/007", "/labels/stable", "/labels/%ff", "/versions/9999999999999999999"])
)
PATHS = st.builds(
    lambda name, which, verb: f"/v1/models/{name}{which}:{verb}",
    st.sampled_from([*KINDS, *KINDS, *KINDS, "nobody", "%00", "%zz"]),
    WHICH,
    st.sampled_from(["predict", "classify", "regress"]),
)


@given(PATHS, DOCUMENTS | DOCUMENTS | VALUES)
@SURE
def test_any_json_gets_an_answer(rest, path, document):
    blames_nobody_else(rest, "POST", path, json.dumps(document))


@given(PATHS, st.binary(max_size=60))
@SURE
def test_any_body_gets_an_answer(rest, path, body):
    blames_nobody_else(rest, "POST", path, body)


@given(PATHS, DOCUMENTS.map(json.dumps), st.data())
@SURE
def test_json_that_was_cut_or_changed_gets_an_answer(rest, path, text, data):
    at = data.draw(st.integers(0, len(text)))
    changed = (
        text[:at]
        + data.draw(st.sampled_from(["", "[", '"', "}", "\x00", "NaN", "-", "1e999", "9" * 5000]))
        + text[at + 1 :]
    )
    blames_nobody_else(rest, "POST", path, changed.encode())


@given(
    st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "FOO"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40),
)
@SURE
def test_any_path_gets_an_answer(rest, method, path):
    status, _ = ask(rest, method, "/v1/models" + path, None)
    assert status not in OURS_TO_BLAME


def test_deep_and_wide_json_gets_an_answer(rest):
    for text in (
        "[" * 100_000,
        '{"inputs":' * 10_000,
        '{"inputs": ' + "[" * 900 + "]" * 900 + "}",
        '{"inputs": [' + "[]," * 9_999 + "[]]}",
    ):
        for verb in ("predict", "classify"):
            blames_nobody_else(rest, "POST", f"/v1/models/plain:{verb}", text.encode())


@given(st.binary(max_size=80) | st.text(st.sampled_from("GETPOST /v1:\r\n0"), max_size=60).map(str.encode))
@settings(max_examples=60, database=None)
def test_any_bytes_end_in_an_answer_or_an_end(server, sent):
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=30) as opened:
        opened.sendall(sent)
        opened.shutdown(socket.SHUT_WR)
        received = b""
        while part := opened.recv(65536):
            received += part
    assert not received.startswith((b"HTTP/1.1 500", b"HTTP/1.0 500"))


@given(st.binary(max_size=60), st.booleans())
@settings(max_examples=30, database=None)
def test_any_bytes_on_the_port_of_grpc_harm_nobody(server, channel, sent, greeted):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as opened:
        opened.sendall((b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" if greeted else b"") + sent)
    status = next(call for call in CALLS if call.name == "GetModelStatus")
    request = wire.GetModelStatusRequest(model_spec=wire.ModelSpec(name="sum"))
    assert code_of(channel, status, request.SerializeToString()) is grpc.StatusCode.OK


NOT_OUR_FAULT = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,  # a method name of a task
}


def code_of(channel, call, sent):
    try:
        channel.unary_unary(f"/{call.service}/{call.name}")(sent, timeout=30)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


ASKING = [call for call in CALLS if call.name != "HandleReloadConfigRequest"]


SIGNATURES_OF = {
    "sum": ["", "uneven"],
    "plain": ["", "matrix", "double", "int", "bool", "scalar", "nothing"],
    "texts": ["", "raw"],
    "examples": ["", "classes_only", "regress", "column", "float_input", "other_input", "unlike", "two_inputs"],
}
SPECS = st.sampled_from([(name, each) for name, listed in SIGNATURES_OF.items() for each in listed])
OF_EXAMPLES = st.sampled_from([("examples", each) for each in SIGNATURES_OF["examples"]])
SIZES = st.lists(st.integers(0, 3), max_size=3)


def steer(data, message):
    """Let most messages ask for a signature that is there, so that what else they hold is looked at."""
    asked = [message, *getattr(message, "tasks", ())]
    for each in asked if data.draw(st.integers(0, 3)) else ():
        if "model_spec" in each.DESCRIPTOR.fields_by_name:
            each.model_spec.Clear()
            fitting = OF_EXAMPLES if "input" in message.DESCRIPTOR.fields_by_name else SPECS
            each.model_spec.name, each.model_spec.signature_name = data.draw(fitting)
    if "inputs" in message.DESCRIPTOR.fields_by_name and data.draw(st.booleans()):
        tensor = data.draw(messages(wire.TensorProto, NAMES))
        name = {"sum": "a", "plain": "x", "texts": "text"}.get(message.model_spec.name, "inputs")
        if data.draw(st.integers(0, 3)):
            message.ClearField("inputs")
        if data.draw(st.booleans()):  # a shape and values that fit each other
            tensor.dtype = data.draw(st.sampled_from([each.number for each in wire.DataType.DESCRIPTOR.values]))
            tensor.tensor_shape.CopyFrom(wire.TensorShapeProto(dim=[{"size": size} for size in data.draw(SIZES)]))
            tensor.ClearField("tensor_content")
        message.inputs[name].CopyFrom(tensor)


@pytest.mark.parametrize("call", ASKING, ids=lambda call: call.name)
@given(st.data())
@settings(max_examples=100, database=None)
def test_any_message_gets_an_answer(channel, call, data):
    message = data.draw(messages(call.request, NAMES))
    steer(data, message)
    assert code_of(channel, call, message.SerializeToString()) in NOT_OUR_FAULT


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
@given(st.binary(min_size=1, max_size=60))
@settings(max_examples=60, database=None)
def test_any_bytes_get_an_answer(channel, call, sent):
    if call.name == "HandleReloadConfigRequest":
        sent = b"\xff" + sent
    assert code_of(channel, call, sent) in NOT_OUR_FAULT


def test_any_configuration_gets_an_answer(tmp_path):
    call = next(call for call in CALLS if call.name == "HandleReloadConfigRequest")
    allowed = {*NOT_OUR_FAULT, grpc.StatusCode.UNKNOWN}  # a model that did not become available
    with served(tmp_path) as running, grpc.insecure_channel(running.target) as opened:

        @given(messages(call.request, {**NAMES, "base_path": [str(tmp_path / "sum"), str(tmp_path), "/nowhere"]}))
        @settings(max_examples=100, database=None)
        def told(message):
            assert code_of(opened, call, message.SerializeToString()) in allowed

        told()
        request = wire.ReloadConfigRequest()
        request.config.model_config_list.config.add(
            name="sum", base_path=str(tmp_path / "sum"), model_platform="tensorflow"
        )
        assert code_of(opened, call, request.SerializeToString()) is grpc.StatusCode.OK


def test_the_server_is_as_it_was(server, rest, channel):
    """Runs last: after all that, every model still answers."""
    assert ask(rest, "POST", "/v1/models/plain:predict", b'{"inputs": [1]}')[0] == 200
    assert server.models.served() == [("examples", 1), ("plain", 1), ("sum", 1), ("sum", 2), ("texts", 1)]
