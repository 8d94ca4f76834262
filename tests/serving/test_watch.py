"""Calls of every kind over both transports: counted, logged, and their log a warm-up for the next version."""

import base64
import json

import grpc
import pytest

from serving import warmup
from serving import wire_pb2 as wire
from serving.methods import CLASSIFY_METHOD, PREDICTION_SERVICE, REGRESS_METHOD
from serving.records import framed, records
from serving.server import grpc_edge, rest
from serving.server.grpc_calls import CALLS
from serving.server.models import Models
from serving.server.monitoring import Monitoring
from serving.server.status import Code, StatusError
from serving.server.warmup import warm_up
from serving.server.watch import Watch
from tests.serving_by_hand import config, load, write


@pytest.fixture
def served(tmp_path):
    """Watch, models and prefix of the log of model `examples`, of which all that is asked is kept."""
    for name in ("sum", "examples"):
        write(tmp_path, name, 1)
    watch = Watch(Monitoring(), known=lambda name: models.versions(name) is not None)
    models = Models(lambda folder, version: watch.watched(load(folder, version)))
    told = config(tmp_path, {}, ["sum", "examples"])
    logging = told.model_config_list.config[1].logging_config
    logging.sampling_config.sampling_rate = 1
    logging.log_collector_config.type = "tfrecord"
    logging.log_collector_config.filename_prefix = str(tmp_path / "log" / "examples")
    models.reload(told)
    models.poll()
    models.poll()
    watch.update_logs(models.wanted())
    yield watch, models, tmp_path
    watch.close()


TWO = {"examples": [{"amount": 2.5}, {"amount": 7.5}]}


def post(served, path, document):
    watch, models, _ = served
    return json.loads(rest.answer(models, watch, "POST", f"/v1/models/{path}", json.dumps(document).encode()))


def call(served, name, request):
    """A call over real gRPC."""
    watch, models, _ = served
    server, port = grpc_edge.bind(models, watch, "127.0.0.1", 0)
    server.start()
    (kind,) = [each for each in CALLS if each.name == name]
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            return channel.unary_unary(
                f"/{PREDICTION_SERVICE}/{name}", type(request).SerializeToString, kind.response.FromString
            )(request, timeout=30)
    finally:
        server.stop(None).wait()


def examples():
    made = wire.Input()
    for amount in (2.5, 7.5):
        example = wire.Example()
        example.features.feature["amount"].float_list.value.append(amount)
        made.example_list.examples.append(example.SerializeToString())
    return made


def asked_in_every_way(served):
    post(served, "examples:classify", TWO)
    post(served, "examples:regress", {**TWO, "signature_name": "regress"})
    packed = [{"b64": base64.b64encode(each).decode()} for each in examples().example_list.examples]
    post(served, "examples:predict", {"signature_name": "regress", "inputs": packed})
    spec = wire.ModelSpec(name="examples")
    call(served, "Classify", wire.ClassificationRequest(model_spec=spec, input=examples()))
    regress = wire.ModelSpec(name="examples", signature_name="regress")
    call(served, "Regress", wire.RegressionRequest(model_spec=regress, input=examples()))
    tasks = [
        wire.InferenceTask(model_spec=spec, method_name=CLASSIFY_METHOD),
        wire.InferenceTask(model_spec=regress, method_name=REGRESS_METHOD),
    ]
    call(served, "MultiInference", wire.MultiInferenceRequest(tasks=tasks, input=examples()))


def logged(served):
    watch, _, folder = served
    watch.close()
    (path,) = (folder / "log").glob("examples-*.tfrecord")
    with path.open("rb") as file:
        return [wire.PredictionLog.FromString(record) for record in records(file)]


def test_a_call_of_every_kind_is_logged_with_its_answer_and_warms_a_version_up(served, tmp_path):
    asked_in_every_way(served)
    found = logged(served)
    assert [each.WhichOneof("log_type") for each in found] == [
        "classify_log",
        "regress_log",
        "predict_log",
        "classify_log",
        "regress_log",
        "multi_inference_log",
    ]
    # What came as JSON and what came as a message is logged alike.
    for by_rest, by_grpc in (
        (found[0].classify_log, found[3].classify_log),
        (found[1].regress_log, found[4].regress_log),
    ):
        assert by_rest.response == by_grpc.response
        assert by_rest.request.input == by_grpc.request.input
    model = load(tmp_path / "examples" / "1", 1)
    folder = tmp_path / "next"
    (folder / "assets.extra").mkdir(parents=True)
    (folder / warmup.FILE).write_bytes(b"".join(framed(each.SerializeToString()) for each in found))
    seen = Monitoring()
    assert warm_up(model, folder, seen) == 6
    assert f'model_warmup_latency_count{{model_path="{folder}",status="OK"}} 1' in seen.text()


def test_calls_count_by_model_api_and_way_and_examples_by_model(served):
    asked_in_every_way(served)
    lines = served[0].monitoring.text().splitlines()
    prefix = ":tensorflow:serving:"
    for line in (
        'request_count{model_name="examples",status="OK"} 6',
        'request_latency_count{model_name="examples",API="Classify",entrypoint="GRPC"} 1',
        'request_latency_count{model_name="examples",API="Classify",entrypoint="REST"} 1',
        'request_latency_count{model_name="examples",API="MultiInference",entrypoint="GRPC"} 1',
        'runtime_latency_count{model_name="examples",API="MultiInference",runtime="TF1"} 2',
        'request_example_count_total{model="examples"} 10',
        'request_example_counts_count{model="examples"} 5',
    ):
        assert prefix + line in lines


def test_failures_are_counted_by_their_code_and_not_logged(served):
    with pytest.raises(StatusError):
        post(served, "examples:classify", {"examples": [{}]})
    with pytest.raises(StatusError):
        post(served, "stranger:predict", {"inputs": [1]})
    counted = served[0].monitoring.request_count
    assert counted.value("examples", Code.INVALID_ARGUMENT.name) == 1
    assert counted.value("", Code.NOT_FOUND.name) == 1
    served[0].close()
    assert not (served[2] / "log").exists()


def test_a_model_without_a_log_is_not_logged_and_a_log_ends_with_its_configuration(served):
    watch, models, folder = served
    post(served, "sum:predict", {"inputs": {"a": [1], "b": [2]}})
    post(served, "examples:classify", TWO)
    models.reload(config(folder, {}, ["sum", "examples"]))
    watch.update_logs(models.wanted())
    post(served, "examples:classify", TWO)
    assert len(logged(served)) == 1
