"""Several models in one server that is told of other ones while it runs: by a call, by labels, and by its file."""

import json
import shutil
import subprocess
import sys
import urllib.request
from urllib.error import HTTPError

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from plumbline.errors import ModelRefused, ModelUnavailable
from serving import tensors
from serving import wire_pb2 as wire
from serving.client import ModelClient
from serving.methods import PREDICT, PREDICTION_SERVICE
from serving.models_client import ModelPlan, model_versions, reload_models
from tests.serving_model import columns
from tests.serving_process import ModelServer, until

DEADLINE_MS = 60_000


def entry(name, base_path, more=""):
    return f'config {{ name: "{name}" base_path: "{base_path}" model_platform: "tensorflow" {more} }}\n'


@pytest.fixture(scope="module")
def bases(request, tmp_path_factory):
    """Base paths of the models `one` (version 1) and `two` (versions 1 and 2)."""
    root = tmp_path_factory.mktemp("several")
    models = request.getfixturevalue("models")
    for name, versions in (("one", (1,)), ("two", (1, 2))):
        for version in versions:
            shutil.copytree(models / str(version), root / name / str(version))
    return root


def served(server, name):
    return {
        number for number, each in model_versions(server.target, name, DEADLINE_MS).items() if each.state == "AVAILABLE"
    }


def test_a_release_in_two_steps_loads_a_version_and_then_moves_the_label(told, bases):
    reload_models(told.target, [ModelPlan("one", str(bases / "one"))], DEADLINE_MS)
    assert served(told, "one") == {1}
    reload_models(told.target, [ModelPlan("two", str(bases / "two"), versions=[1])], DEADLINE_MS)
    assert served(told, "two") == {1}, "it answers once the new model is served"
    until(lambda: not served(told, "one"))
    assert model_versions(told.target, "one", DEADLINE_MS)[1].state == "END"
    with ModelClient(told.target, "one", DEADLINE_MS) as left_out, pytest.raises(ModelUnavailable, match="Latest"):
        left_out.score(columns(1))

    both = ModelPlan("two", str(bases / "two"), versions=[1, 2], labels={"stable": 1})
    reload_models(told.target, [both], DEADLINE_MS)
    hasty = ModelPlan("two", str(bases / "two"), versions=[1, 2, 3], labels={"stable": 3})
    with pytest.raises(ModelRefused, match="Request to assign label to version 3 of model two, which is not currently"):
        reload_models(told.target, [hasty], DEADLINE_MS)
    until(lambda: served(told, "two") == {1, 2})
    reload_models(told.target, [ModelPlan("two", str(bases / "two"), newest=2, labels={"stable": 2})], DEADLINE_MS)
    assert served(told, "two") == {1, 2}


def test_a_model_that_does_not_load_is_told_of_with_its_reason_and_harms_no_other(told, bases):
    broken = bases / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "saved_model.pb").write_bytes(b"no model at all")
    plans = [ModelPlan("two", str(bases / "two")), ModelPlan("broken", str(bases / "broken"))]
    with pytest.raises(ModelUnavailable, match=r"1 model\(s\) did not become available: .*cannot be read"):
        reload_models(told.target, plans, DEADLINE_MS)
    assert model_versions(told.target, "broken", DEADLINE_MS)[1].code == "DATA_LOSS"
    assert served(told, "two") == {2}
    assert model_versions(told.target, "nobody", DEADLINE_MS) == {}


@pytest.mark.parametrize(
    ("misfit", "reason"),
    [
        ("mute", "has no signature that can be called"),
        ("complex", "input x has the type DT_COMPLEX64, which this server does not carry"),
    ],
)
def test_a_version_with_the_wrong_signatures_is_refused_with_the_reason(told, bases, models, misfit, reason):
    base = bases / misfit
    shutil.copytree(models / "1", base / "1")
    reload_models(told.target, [ModelPlan(misfit, str(base))], DEADLINE_MS)
    shutil.copytree(models / misfit, base / "2.tmp")
    (base / "2.tmp").rename(base / "2")

    def refused():
        found = model_versions(told.target, misfit, DEADLINE_MS).get(2)
        return found if found and found.code != "OK" else None

    found = until(refused)
    assert (found.state, reason in found.message) == ("END", True), found.message
    assert served(told, misfit) == {1}, "the one before goes on"


WRONG_CALLS = (
    ("Classify", b"\xff", ""),
    ("Classify", b"\xff\xfe", ""),
    ("Classify", b"", ""),
    ("Regress", b"\x0a\x03abc", "regress"),
    ("Classify", b"\x0a\x00", "nothing"),
)
WRONG_BODIES = (
    ("classify", b'{"examples": [{"country": "DE"}]}'),
    ("predict", b'{"inputs": [{"b64": "//8="}]}'),
    ("regress", b"["),
)
ROUNDS = 100
GRAPH_FAILURE_BYTES = 1024
"""What TensorFlow's Python runtime keeps of a call that fails inside a graph: see the traps in docs/serving.md."""
SLACK_BYTES = 8 * 1024 * 1024
THREADS_MAX = 8


def ask_wrongly(server, channel):
    """One request of each wrong kind, each over gRPC or over a new connection; all are the caller's fault."""
    for name, example, signature in WRONG_CALLS:
        request = wire.ClassificationRequest(model_spec=wire.ModelSpec(name="examples", signature_name=signature))
        request.input.example_list.examples.append(example)
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/{PREDICTION_SERVICE}/{name}")(request.SerializeToString(), timeout=30)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    for verb, body in WRONG_BODIES:
        url = f"http://127.0.0.1:{server.rest_port}/v1/models/examples:{verb}"
        with pytest.raises(HTTPError) as refused:
            urllib.request.urlopen(url, body, timeout=30)
        assert (refused.value.code, list(json.load(refused.value))) == (400, ["error"])


def test_a_real_graph_answers_whatever_comes_and_holds_on_to_nothing(told, models, bases):
    shutil.copytree(models / "examples", bases / "examples" / "1")
    reload_models(told.target, [ModelPlan("examples", str(bases / "examples"))], DEADLINE_MS)
    process = psutil.Process(told.process.pid)
    held = []
    with grpc.insecure_channel(told.target) as channel:
        for rounds in (ROUNDS // 2, ROUNDS):
            for _ in range(rounds):
                ask_wrongly(told, channel)
            held.append((process.memory_info().rss, process.num_threads()))
    (rss, threads), (rss_after, threads_after) = held
    kept = ROUNDS * (len(WRONG_CALLS) + len(WRONG_BODIES)) * GRAPH_FAILURE_BYTES
    assert rss_after - rss < kept + SLACK_BYTES
    assert threads_after - threads <= THREADS_MAX


def test_what_is_off_by_default_can_be_switched_on(told):
    with grpc.insecure_channel(told.target) as channel:
        asked = health_pb2.HealthCheckRequest(service="PredictionService")
        assert (
            health_pb2_grpc.HealthStub(channel).Check(asked, timeout=30).status
            == health_pb2.HealthCheckResponse.SERVING
        )
        assert "grpc.health.v1.Health" in ProtoReflectionDescriptorDatabase(channel).get_services()
        request = wire.PredictRequest(model_spec=wire.ModelSpec(name="examples", signature_name="regress"))
        example = wire.Example()
        example.features.feature["amount"].float_list.value.append(1.5)
        tensors.fill(request.inputs["inputs"], [example.SerializeToString()])
        answer = channel.unary_unary(PREDICT, response_deserializer=wire.PredictResponse.FromString)
        outputs = answer(request.SerializeToString(), timeout=30).outputs["outputs"]
        assert (outputs.tensor_content, list(outputs.float_val)) == (np.float32([3]).tobytes(), [])
    preflight = urllib.request.Request(f"http://127.0.0.1:{told.rest_port}/v1/models/examples", method="OPTIONS")
    preflight.add_header("Origin", "https://shop.example")
    with urllib.request.urlopen(preflight, timeout=30) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "*"


def test_a_server_that_is_away_is_told_of():
    with pytest.raises(ModelUnavailable, match="GetModelStatus at 127"):
        model_versions("127.0.0.1:1", "one", 500)


def test_a_configuration_file_is_read_again_and_one_that_is_wrong_changes_nothing(bases, tmp_path):
    file = tmp_path / "models.config"
    ahead = entry("one", bases / "one", 'version_labels { key: "new" value: 1 }')
    file.write_text(f"model_config_list {{ {ahead} }}")
    more = ["--model-config-file", str(file), "--model-config-file-poll-wait-seconds", "0.1"]
    more += ["--allow-version-labels-for-unavailable-models"]
    with ModelServer(tmp_path / "none", tmp_path / "serve.log", more=more) as server:
        server.wait_for("serving", 1)
        file.write_text(f"model_config_list {{ {entry('one', 'somewhere')} }}")
        until(lambda: "to have an absolute path or URI" in server.log.read_text())
        assert served(server, "one") == {1}
        file.write_text(f"model_config_list {{ {entry('two', bases / 'two')} }}")
        assert server.wait_for("serving", 2)["model"] == "two"
        until(lambda: not served(server, "one"))


def test_a_file_that_is_not_allowed_ends_the_start_with_one_sentence(tmp_path):
    labelled = entry("m", "/m", 'version_labels { key: "stable" value: 1 }')
    (tmp_path / "models.config").write_text(f"model_config_list {{ {labelled} }}")
    arguments = ["--port", "0", "--rest-port", "0", "--model-config-file", str(tmp_path / "models.config")]
    done = subprocess.run(
        [sys.executable, "-m", "plumbline.cli.main", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Request to assign label to version 1 of model m, which is not currently available" in done.stderr
    assert "Traceback" not in done.stderr
