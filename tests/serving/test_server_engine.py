"""One real server with batching, mutual TLS, metrics, request log and warm-up, by TensorFlow Serving's own flags."""

import shutil
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from prometheus_client.parser import text_string_to_metric_families

from plumbline.errors import ModelUnavailable
from serving import tensors, warmup
from serving import wire_pb2 as wire
from serving.client import ModelClient
from serving.columns import NAMES
from serving.records import framed, records
from tests.serving.certificates import Authority
from tests.serving_model import columns
from tests.serving_process import ModelServer, until

CALLERS = 12


@pytest.fixture(scope="module")
def merging_server(request, authority, tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    key, certificate = authority.issue("server")
    files = {
        "model-config-file": f"""model_config_list {{ config {{
            name: 'fraud' base_path: '{folder}/models' model_platform: 'tensorflow'
            logging_config {{
                sampling_config {{ sampling_rate: 1 }}
                log_collector_config {{ type: 'tfrecord' filename_prefix: '{folder}/log/fraud' }}
            }} }} }}""",
        "batching-parameters-file": "max_batch_size { value: 256 } batch_timeout_micros { value: 2000 }"
        " max_enqueued_batches { value: 100 } num_batch_threads { value: 2 }",
        "ssl-config-file": text_format.MessageToString(
            wire.SSLConfig(server_key=key, server_cert=certificate, custom_ca=authority.pem, client_verify=True)
        ),
        "monitoring-config-file": "prometheus_config { enable: true path: '/metrics' }",
    }
    more = ["--enable-batching"]
    for name, text in files.items():
        (folder / name).write_text(text)
        more += [f"--{name}", str(folder / name)]
    (folder / "models").mkdir()
    with ModelServer(folder / "models", folder / "serve.log", "fraud", more=more) as server:
        shutil.copytree(request.getfixturevalue("models") / "1", folder / "models" / "1")
        server.wait_for("serving", 1)
        yield server


@pytest.fixture(scope="module")
def authority():
    return Authority("the bank's own")


@pytest.fixture(scope="module")
def credentials(authority):
    """What a client must show."""
    key, certificate = (text.encode() for text in authority.issue("client"))
    return grpc.ssl_channel_credentials(authority.pem.encode(), key, certificate)


@pytest.fixture
def client(merging_server, credentials):
    with ModelClient(merging_server.target, "fraud", 30_000, credentials) as connected:
        yield connected


def page(server, path="/metrics"):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}{path}", timeout=30) as response:
        assert response.headers["Content-Type"].startswith("text/plain")
        return response.read().decode()


def metrics(server):
    """Every sample of the metrics page by its name without TensorFlow Serving's prefix, and its label values."""
    found = {}
    for family in text_string_to_metric_families(page(server)):
        for sample in family.samples:
            # The parser gives every counter the end that TensorFlow Serving's do not have.
            name = sample.name.removeprefix(":tensorflow:serving:").removesuffix("_total")
            found[name, *sample.labels.values()] = sample.value
    return found


def test_many_callers_get_the_models_own_bits_and_share_its_runs(merging_server, client, models):
    reference = np.load(models / "reference-1.npz")
    asked = columns(257)
    before = metrics(merging_server).get(("batching_session:wrapped_run_count",), 0)

    def ask(seed):
        random = np.random.default_rng(seed)
        for _ in range(15):
            start = int(random.integers(0, 256))
            end = int(random.integers(start + 1, min(start + 70, 258)))
            part = asked.take(np.arange(start, end))
            if seed % 3:
                assert client.score(part).values.tobytes() == reference["score"][start:end].tobytes()
            else:
                assert client.explain(part).tobytes() == reference["effects"][start:end].tobytes()

    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(ask, range(CALLERS)))
    found = metrics(merging_server)
    runs = found["batching_session:wrapped_run_count",] - before
    assert 0 < runs < CALLERS * 15
    assert found["batching_session:input_batch_size_count",] >= CALLERS * 15
    assert found["batching_session:queuing_latency_count", "batch_threads"] >= CALLERS * 15


def test_a_signature_without_rows_and_one_too_large_are_answered_as_they_are(client):
    assert client.about().fingerprint == "00000000000000a1"
    with pytest.raises(ModelUnavailable, match="Task size 257 is larger than maximum input batch size 256"):
        client.score(columns(257))


def test_whoever_shows_no_certificate_is_not_answered(merging_server):
    with ModelClient(merging_server.target, "fraud", 500) as stranger, pytest.raises(ModelUnavailable):
        stranger.score(columns(1))


def test_calls_are_counted_by_model_and_outcome(merging_server, client, credentials):
    before = metrics(merging_server)
    client.score(columns(3))
    nobody = ModelClient(merging_server.target, "strange name", 30_000, credentials)
    with nobody, pytest.raises(ModelUnavailable):
        nobody.score(columns(1))
    after = metrics(merging_server)

    def more(*key):
        return after.get(key, 0) - before.get(key, 0)

    assert more("request_count", "fraud", "OK") == 1
    assert more("request_count", "", "NOT_FOUND") == 1
    assert more("request_latency_count", "fraud", "Predict", "GRPC") == 1
    assert more("runtime_latency_count", "fraud", "Predict", "TF1") == 1
    assert not any("strange name" in key for key in after)


def test_the_metrics_have_one_path(merging_server):
    for path in ("/metrics/", "/monitoring/prometheus/metrics"):
        with pytest.raises(HTTPError) as caught:
            page(merging_server, path)
        assert (caught.value.code, caught.value.read().decode()) == (
            400,
            f"Unexpected path: {path}. Should be /metrics",
        )


def logged(merging_server):
    found = []
    for path in sorted((merging_server.base_path.parent / "log").glob("fraud-*.tfrecord")):
        with path.open("rb") as file:
            found += [wire.PredictionLog.FromString(record) for record in records(file)]
    return found


def publish(merging_server, models, number, made):
    """Publish version 2 of the small models under a number, after `made` has done something to its folder."""
    hidden = merging_server.base_path / f"{number}.tmp"
    shutil.copytree(models / "2", hidden)
    made(hidden)
    hidden.rename(merging_server.base_path / str(number))


def test_what_was_asked_is_logged_and_warms_the_next_version_up(merging_server, client, models):
    asked, known = columns(2), len(logged(merging_server))
    values = client.score(asked).values
    until(lambda: len(logged(merging_server)) > known)
    record = logged(merging_server)[-1]
    assert (record.log_metadata.model_spec.name, record.log_metadata.model_spec.version.value) == ("fraud", 1)
    request, response = record.predict_log.request, record.predict_log.response
    assert tensors.array(request.inputs["history"]).tolist() == asked.history.tolist()
    assert tensors.array(response.outputs["score"]).tobytes() == values.tobytes()

    def warmed(folder):
        (folder / "assets.extra").mkdir()
        found = [framed(each.SerializeToString()) for each in logged(merging_server)]
        (folder / warmup.FILE).write_bytes(b"".join(found[: warmup.MAX_RECORDS]))

    references = {which: np.load(models / f"reference-{which}.npz")["score"][:40].tobytes() for which in (1, 2)}
    part, taken_over = columns(257).take(np.arange(40)), threading.Event()

    def keep_asking(_):
        while not taken_over.is_set():
            scored = client.score(part)
            assert scored.values.tobytes() == references[scored.model_version]

    with ThreadPoolExecutor(4) as pool:
        asking = pool.map(keep_asking, range(4))
        try:
            publish(merging_server, models, 2, warmed)
            merging_server.wait_for("serving", 2)
        finally:
            taken_over.set()
        list(asking)
    path = str(merging_server.base_path / "2")
    assert metrics(merging_server)["model_warmup_latency_count", path, "OK"] == 1


BROKEN = {
    "a signature that is not there": (
        lambda folder: warmup.write(folder, "fraud", [("nothing", {"x": np.zeros(1, np.int64)})]),
        'warm-up request 0 cannot be answered: Serving signature key "nothing" not found.',
    ),
    "no TFRecord file": (
        lambda folder: (folder / warmup.FILE).write_bytes(b"anything else"),
        "Please verify your warmup data is in TFRecord format.",
    ),
    "no PredictionLog": (
        lambda folder: (folder / warmup.FILE).write_bytes(framed(b"\xff\xff")),
        "Failed to parse warmup record:",
    ),
    "too many": (
        lambda folder: (folder / warmup.FILE).write_bytes(warm(columns(1)) * (warmup.MAX_RECORDS + 1)),
        "Number of warmup records exceeds the maximum (1000) at ",
    ),
    "another kind": (
        lambda folder: (folder / warmup.FILE).write_bytes(framed(wire.PredictionLog().SerializeToString())),
        "Unsupported log_type for warmup: none",
    ),
}


def warm(asked):
    log = wire.PredictionLog()
    log.predict_log.request.model_spec.name = "fraud"
    for name in NAMES:
        tensors.fill(log.predict_log.request.inputs[name], getattr(asked, name))
    return framed(log.SerializeToString())


@pytest.mark.parametrize(("number", "kind"), list(enumerate(BROKEN, 10)))
def test_a_version_whose_warm_up_fails_is_refused_and_the_one_before_goes_on(
    merging_server, client, models, number, kind
):
    before = client.score(columns(1)).model_version
    made, complaint = BROKEN[kind]

    def broken(folder):
        (folder / "assets.extra").mkdir()
        made(folder)

    publish(merging_server, models, number, broken)
    until(lambda: client.states().get(number) == "END")
    url = f"http://127.0.0.1:{merging_server.rest_port}/v1/models/fraud/versions/{number}"
    with urllib.request.urlopen(url, timeout=30) as response:
        assert complaint in response.read().decode().replace('\\"', '"')
    assert client.score(columns(1)).model_version == before
    shutil.rmtree(merging_server.base_path / str(number))
