"""The client against real gRPC servers in this process, which answer as TensorFlow Serving may."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import pytest

from plumbline.errors import ModelUnavailable
from serving import tensors
from serving import wire_pb2 as wire
from serving.client import ModelClient
from serving.methods import PREDICTION_SERVICE
from tests.serving_model import columns
from tests.serving_process import free_port


@contextmanager
def answering(behaviour):
    """A Predict server with the given behaviour, and the requests it got."""
    requests = []

    def predict(request, context):
        requests.append(request)
        return behaviour(request, context)

    server = grpc.server(ThreadPoolExecutor(2))
    handler = grpc.unary_unary_rpc_method_handler(
        predict,
        request_deserializer=wire.PredictRequest.FromString,
        response_serializer=wire.PredictResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(PREDICTION_SERVICE, {"Predict": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with ModelClient(f"127.0.0.1:{port}", "fraud", deadline_ms=20_000) as client:
            yield client, requests
    finally:
        server.stop(0).wait()


def answer(version=7, **outputs):
    response = wire.PredictResponse()
    response.model_spec.version.value = version
    for name, values in outputs.items():
        tensors.fill(response.outputs[name], values)
    return response


def floats(values):
    response = answer()
    tensor = response.outputs["score"]
    tensor.dtype = wire.DT_FLOAT
    tensor.tensor_shape.dim.add(size=len(values))
    tensor.float_val.extend(values.tolist())
    return response


@pytest.mark.parametrize("encode", [lambda values: answer(score=values), floats], ids=["tensor_content", "float_val"])
def test_scores_are_the_servers_own_float32_in_either_encoding(encode):
    scores = np.random.default_rng(3).random(300, dtype=np.float32)
    with answering(lambda *_: encode(scores)) as (client, requests):
        scored = client.score(columns(300))
    assert scored.values.dtype == np.float32
    assert scored.values.tobytes() == scores.tobytes()
    assert scored.model_version == 7
    assert len(requests) == 1


def test_a_request_names_model_signature_and_only_a_wanted_version():
    with answering(lambda *_: answer(score=np.zeros(2, np.float32))) as (client, requests):
        client.score(columns(2))
        client.score(columns(2), version=5)
    newest, fifth = (request.model_spec for request in requests)
    assert (newest.name, newest.signature_name, newest.HasField("version")) == ("fraud", "serving_default", False)
    assert fifth.version.value == 5


def test_every_column_arrives_as_it_was():
    asked = columns(5)
    with answering(lambda *_: answer(score=np.zeros(5, np.float32))) as (client, requests):
        client.score(asked)
    got = {name: tensors.array(tensor) for name, tensor in requests[0].inputs.items()}
    assert got["history"].tolist() == asked.history.tolist()
    assert got["amount_minor"].dtype == np.int64
    assert got["mcc"].tolist() == asked.mcc
    assert requests[0].inputs["history"].tensor_content == asked.history.tobytes()


@pytest.mark.parametrize(
    ("code", "tries"),
    [
        (grpc.StatusCode.UNAVAILABLE, 2),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 2),
        (grpc.StatusCode.INTERNAL, 2),
        (grpc.StatusCode.UNKNOWN, 2),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 2),
        (grpc.StatusCode.INVALID_ARGUMENT, 1),
        (grpc.StatusCode.NOT_FOUND, 1),
        (grpc.StatusCode.FAILED_PRECONDITION, 1),
    ],
)
def test_a_fault_is_tried_once_more_and_a_refusal_is_not(code, tries):
    def refuse(_, context):
        context.abort(code, "the reason")

    with (
        answering(refuse) as (client, requests),
        pytest.raises(ModelUnavailable, match=f"{code.name}: the reason"),
    ):
        client.score(columns(1))
    assert len(requests) == tries


def test_the_second_try_may_succeed():
    failing = iter([True, False])

    def once(_, context):
        if next(failing):
            context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
        return answer(score=np.array([0.25], np.float32))

    with answering(once) as (client, requests):
        assert client.score(columns(1)).values.tolist() == [0.25]
    assert len(requests) == 2


@pytest.mark.parametrize(
    ("response", "complaint"),
    [
        (answer(), "without the output score"),
        (answer(score=np.zeros(2, np.float32)), r"float32 \[2\]: expected float32 \[3\]"),
        (answer(score=np.zeros((3, 1), np.float32)), r"float32 \[3, 1\]"),
        (answer(score=np.zeros(3, np.float64)), "float64"),
        (answer(score=np.array([0.5, np.nan, 0.5], np.float32)), "score nan: expected 0 to 1"),
        (answer(score=np.array([0.5, 1.5, 0.5], np.float32)), "score 1.5"),
    ],
)
def test_an_answer_that_is_no_probability_for_every_row_is_no_answer(response, complaint):
    with answering(lambda *_: response) as (client, _), pytest.raises(ModelUnavailable, match=complaint):
        client.score(columns(3))


def test_a_broken_tensor_is_no_answer():
    response = answer(score=np.zeros(3, np.float32))
    response.outputs["score"].tensor_content = b"12345"
    with answering(lambda *_: response) as (client, _), pytest.raises(ModelUnavailable, match="broken score"):
        client.score(columns(3))


def test_effects_are_a_row_of_features_for_every_transaction():
    effects = np.random.default_rng(3).normal(size=(4, 30)).astype(np.float32)
    baseline = np.full(4, -3, np.float32)
    logit = (effects.sum(axis=1) + baseline).astype(np.float32)
    with answering(lambda *_: answer(effects=effects, logit=logit, baseline_logit=baseline)) as (client, requests):
        assert client.explain(columns(4)).tobytes() == effects.tobytes()
    assert requests[0].model_spec.signature_name == "explain"


@pytest.mark.parametrize("off", [0.001, np.nan, np.inf])
def test_effects_that_do_not_add_up_are_no_explanation(off):
    effects = np.ones((4, 30), np.float32)
    logit = np.array([30, 30, 30 + off, 30], np.float32)
    response = answer(effects=effects, logit=logit, baseline_logit=np.zeros(4, np.float32))
    with answering(lambda *_: response) as (client, _), pytest.raises(ModelUnavailable, match="miss the logit"):
        client.explain(columns(4))


def test_effects_alone_cannot_be_checked_and_are_no_explanation():
    response = answer(effects=np.zeros((4, 30), np.float32))
    with answering(lambda *_: response) as (client, _), pytest.raises(ModelUnavailable, match="the output logit"):
        client.explain(columns(4))


def test_the_features_asked_for_come_by_name_with_their_types():
    found: dict[str, np.ndarray] = {"amount_log": np.linspace(-2, 2, 4, dtype=np.float32), "country": np.arange(4)}
    with answering(lambda *_: answer(**found, other=np.zeros(4, np.float32))) as (client, requests):
        got = client.transform(columns(4), ["country", "amount_log"], 7)
    assert list(got) == ["country", "amount_log"]
    assert all(values.tobytes() == found[name].tobytes() for name, values in got.items())
    assert (requests[0].model_spec.signature_name, requests[0].model_spec.version.value) == ("transform", 7)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, "without the output amount_log"),
        ({"amount_log": np.zeros(3, np.float32)}, r"amount_log as float32 \[3\]"),
        ({"amount_log": np.zeros(4, np.float64)}, r"amount_log as float64 \[4\]: expected float32"),
    ],
)
def test_a_feature_that_is_missing_or_malformed_is_no_answer(found, said):
    with answering(lambda *_: answer(**found)) as (client, _), pytest.raises(ModelUnavailable, match=said):
        client.transform(columns(4), ["amount_log"])


def test_about_tells_declaration_and_version():
    said = {"fingerprint": np.array(b"0123456789abcdef", object), "declaration": np.array(b"{}", object)}
    with answering(lambda *_: answer(**said)) as (client, _):
        about = client.about()
    assert (about.fingerprint, about.declaration, about.model_version) == ("0123456789abcdef", b"{}", 7)


def test_a_server_that_hangs_costs_at_most_twice_the_deadline():
    release = threading.Event()

    def hang(*_):
        release.wait(60)
        return answer()

    with answering(hang) as (client, requests):
        client.deadline_ms = 400
        started = time.monotonic()
        with pytest.raises(ModelUnavailable, match="after one retry: DEADLINE_EXCEEDED"):
            client.score(columns(1))
        seconds = time.monotonic() - started
        release.set()
    assert 0.75 <= seconds < 3.0  # 0.8 s, and what a busy machine adds
    assert len(requests) == 2


def test_a_port_that_nobody_listens_on_is_told_at_once():
    with ModelClient(f"127.0.0.1:{free_port()}", "fraud", deadline_ms=5_000) as client:
        started = time.monotonic()
        with pytest.raises(ModelUnavailable, match="UNAVAILABLE"):
            client.score(columns(1))
        assert time.monotonic() - started < 5


def test_threads_may_share_a_client():
    with answering(
        lambda request, _: answer(score=tensors.array(request.inputs["amount_minor"]).astype(np.float32) / 2e9)
    ) as (
        client,
        _,
    ):
        batches = [columns(rows, seed=rows) for rows in range(1, 40)]
        with ThreadPoolExecutor(4) as pool:
            scored = list(pool.map(client.score, batches))
    for asked, got in zip(batches, scored, strict=True):
        assert got.values.tolist() == (asked.amount_minor.astype(np.float32) / 2e9).tolist()


def test_the_client_never_imports_tensorflow():
    code = (
        "import sys, serving.client; serving.client.ModelClient('127.0.0.1:1', 'm', 1); "
        "heavy = {'tensorflow', 'apache_beam', 'keras', 'pandas'} & set(sys.modules); sys.exit(', '.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
