"""All paths agree: whatever way a row takes, its features, its score and its reasons are the same bits.

A model is trained on a simulated bank, on one device and on two; 10,000 rows with their history, and rows that no bank
ever saw, then go through training's tf.data, batch scoring, the SavedModel in this process, and the embedded server by
gRPC and by REST, in batches of every size and at any place. Where equality to the bit is not promised (oneDNN on
against off, LiteRT) the distance is printed and bounded.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archive.layout import open_archive
from archive.simulation.run import Plan, simulate
from audit.models import inputs
from audit.paths import OUTPUTS, SIZES, by_grpc, by_rest, differing, distance, litert, scattered, shuffled
from features.analysis import raw_columns
from features.declaration import DECLARATION, HISTORY_NAMES
from features.preprocessing import ROWS_MULTIPLE
from features.sweep import History
from plumbline.policy import Policy
from serving.client import ModelClient
from serving.columns import ModelColumns
from streaming.arrivals import arrivals
from streaming.batch import model_columns
from tests.serving_process import ModelServer
from training.dataset import examples, write_rows
from training.evaluate import load_version, score_rows
from training.export import Exported, publish, save
from training.feed import checking_batches, training_batches
from training.fit import Recipe, fit
from training.past import ensure_history
from training.placed import strategy
from training.shards import write_shards
from training.windows import Windows, parse_days

ROOT = Path(__file__).parents[2]
HANDBOOK = ROOT.parent / "shared" / "data" / "handbook"
ROWS = 10_000
ONEDNN_BOUND, LITERT_BOUND = 1e-5, 5e-5
"""How far a score may move with oneDNN switched, and in LiteRT; docs/architecture.md says why. Features stay."""

PLAN = Plan(accounts=320, days=50, fraud_rate=0.03, seed=11)
WINDOWS = Windows(parse_days("2024-01-26..2024-02-10"), 2, parse_days("2024-02-13..2024-02-18"))


def beside(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


small, batches, strange = beside("small"), beside("batches"), beside("strange")


@pytest.fixture(scope="module", autouse=True)
def cpus():
    """Two logical CPU devices for this process, settled before TensorFlow's first operation."""
    return strategy(2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paths")
    return small.trained(folder, simulate(PLAN, folder / "archive"), WINDOWS)


@pytest.fixture(scope="module")
def two_devices(made, cpus):
    """The folder of a version that two MirroredStrategy replicas trained, of the same rows."""
    fitted = fit(made.examples, made.exported.transform.vocabulary_sizes, Recipe(epochs=2), cpus)
    base = made.folder / "two" / "small"
    base.mkdir(parents=True)
    model = save(Exported(made.exported.transform, fitted.network, small.CALIBRATION), base)
    return publish(model, base, {"name": "small"}, Policy(version="v"))


def rows_of(archive, cache, days, file):
    """A Parquet file of the first 10,000 transactions of some days, with history and truth."""
    history = ensure_history(archive, cache, (days.since_us, days.until_us))
    whole = file.with_suffix(".whole")
    assert write_rows(archive, history, days, None, whole) >= ROWS
    pq.write_table(pq.read_table(whole).slice(0, ROWS), file)
    return file


@pytest.fixture(scope="module", params=["simulated", *(["handbook"] if HANDBOOK.is_dir() else [])])
def rows(request, made, tmp_path_factory):
    """10,000 rows with their history: simulated ones, and real ones of the Handbook where its data set lies near by."""
    file = tmp_path_factory.mktemp("rows") / "rows.parquet"
    if request.param == "simulated":
        return rows_of(made.archive, made.cache, replace(WINDOWS.train, last=WINDOWS.test.last), file)
    to = file.parent / "archive"
    command = [
        sys.executable, "-m", "plumbline.cli.main", "import", "handbook", str(HANDBOOK), "--to", str(to),
        "--until", "2018-04-08",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return rows_of(open_archive(to), file.parent / "cache", parse_days("2018-04-06..2018-04-07"), file)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The embedded server of a base path in which tests publish versions."""
    with ModelServer(tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("log") / "serve.log") as started:
        yield started


@pytest.fixture(scope="module", params=["one", "two"])
def version(request, made):
    """The folder of a version, trained on one device or on two; their weights differ, what is promised does not."""
    return made.version if request.param == "one" else request.getfixturevalue("two_devices")


@pytest.fixture(scope="module")
def model(version):
    return load_version(version)


@pytest.fixture(scope="module")
def served(server, version):
    """The ways by which the server answers for a version, as its newest."""
    number = max((int(each.name) for each in server.base_path.iterdir()), default=0) + 1
    shutil.copytree(version, server.base_path / "copying")
    (server.base_path / "copying").rename(server.base_path / str(number))
    server.wait_for("serving", number)
    forms = {f"rest by {form}": by_rest(server.rest_port, "plumbline", form) for form in ("row", "column")}
    return {"grpc": by_grpc(server.target, "plumbline"), **forms}


def padded_sigmoid(logits):
    """float32 [n] of the network's logits [n], as the exported graph takes it: over padded rows."""
    return tf.sigmoid(np.pad(logits, (0, -len(logits) % ROWS_MULTIPLE))).numpy()[: len(logits)]


def test_what_tf_data_trains_on_and_what_the_network_makes_of_it_is_what_serves(made, rows, tmp_path):
    model, columns = load_version(made.version), batches.file_columns(rows)
    served = model.call("transform", columns)
    learnt = examples(rows, made.exported.transform.features)
    numbered = replace(learnt, frauds=np.arange(ROWS, dtype=np.float32))
    network = made.fitted.network.whole
    shards = write_shards(tmp_path / "examples", [numbered], made.exported.transform.vocabulary_sizes)
    whole = slice(0, ROWS)
    for feed in (checking_batches(shards, whole, 512), training_batches(shards, whole, 125, 3, 0)):
        seen, logits = [], np.zeros(ROWS, np.float32)
        for numbers, categories, numbers_of_rows, weights in feed:
            real = weights.numpy() > 0
            at = numbers_of_rows.numpy()[real].astype(np.int64)
            seen.append(at)
            for index, each in enumerate(DECLARATION.numbers):
                assert differing({"": numbers.numpy()[: len(at), index]}, {"": served[each.name][at]}) == 0, each.name
            for index, each in enumerate(DECLARATION.categories):
                assert np.array_equal(categories.numpy()[: len(at), index], served[each.name][at]), each.name
            logits[at] = network([numbers, categories], training=False)[: len(at), 0]
        assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(ROWS))
        assert differing({"": padded_sigmoid(made.exported.calibrated(logits))}, {"": model.score(columns)}) == 0
    alone = [network([learnt.numbers[at : at + 1], learnt.categories[at : at + 1]])[0] for at in range(40)]
    assert differing({"": np.concatenate(alone)}, {"": logits[:40]}) == 0


def test_batch_scoring_and_every_served_way_give_the_same_bits(rows, version, model, served, server):
    columns = batches.file_columns(rows)
    truth = {signature: model.call(signature, columns) for signature in OUTPUTS}
    assert differing({"score": score_rows(rows, model).scores}, truth["serving_default"]) == 0
    for seed, (way, call) in enumerate({"in process": model.call, **served}.items()):
        for signature in OUTPUTS:
            some = 2_000 if signature != "serving_default" and "rest" in way else ROWS
            given = {name: column[:some] for name, column in columns.items()}
            found = scattered(call, signature, given, shuffled(some, np.random.default_rng(seed)))
            assert differing(batches.cut(truth[signature], some), found) == 0, (way, signature)
    with ModelClient(server.target, "plumbline", deadline_ms=30_000) as client:
        scored = client.score(ModelColumns(**columns))
        assert differing({"score": scored.values}, truth["serving_default"]) == 0
        effects = {"effects": client.explain(ModelColumns(**columns))}
        assert differing(effects, {"effects": truth["explain"]["effects"]}) == 0


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(rare=strange.any_rows(), others=st.sampled_from([0, 1, 58, 62, 130]), seed=st.integers(0, 1000))
def test_rows_that_no_bank_ever_saw_have_the_same_bits_by_every_way(model, served, rare, others, seed):
    n = len(rare["history"])
    crowd = small.raw_rows(others, seed)
    order = np.random.default_rng(seed).permutation(n + others)
    among = {name: np.concatenate([rare[name], crowd[name]])[order] for name in rare}
    at = np.argsort(order)[:n]
    for signature in OUTPUTS:
        alone = model.call(signature, rare)
        assert all(np.all(np.isfinite(values)) for values in alone.values()), signature
        for way, call in {"in process": model.call, **served}.items():
            found = {name: values[at] for name, values in call(signature, among).items()}
            assert differing(alone, found) == 0, (way, signature)


@settings(max_examples=40)
@given(stream=strange.transactions())
def test_the_scorers_rows_are_training_s_rows_and_the_audits(model, served, stream):
    history = History().advance(arrivals(stream))
    ours = model_columns(stream, history)
    table = pa.table(
        {
            **{name: [getattr(each, name) for each in stream] for name in strange.WORDS},
            "occurred_at": pa.array([each.occurred_at for each in stream], pa.int64()),
            "amount_minor": pa.array([each.amount_minor for each in stream], pa.int64()),
            "latitude_e6": pa.array([each.latitude_e6 for each in stream], pa.int32()),
            "longitude_e6": pa.array([each.longitude_e6 for each in stream], pa.int32()),
            **{name: history[:, index] for index, name in enumerate(HISTORY_NAMES)},
        }
    )
    trained_on, audited = raw_columns(table), inputs(stream, history)
    for name, column in trained_on.items():
        assert np.array_equal(column, np.array(getattr(ours, name))), name
        assert np.array_equal(column, audited[name]), name
    scores = served["grpc"]("serving_default", audited)
    assert differing(model.call("serving_default", trained_on), scores) == 0
    assert np.all((scores["score"] >= 0) & (scores["score"] <= 1))


def test_one_dnn_on_or_off_is_exact_within_itself_and_near_across(made, rows, tmp_path):
    here = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1")
    there = "0" if here == "1" else "1"
    file = {setting: tmp_path / f"{setting}.npz" for setting in (here, there)}
    environ = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": there, "PYTHONPATH": str(ROOT)}
    program = [sys.executable, batches.__file__, str(made.version), str(rows), str(file[there])]
    done = subprocess.run(program, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {there: json.loads(done.stdout.splitlines()[-1]), here: batches.main(made.version, rows, file[here])}
    for setting, different in found.items():
        assert len(different) == 3 * (len(SIZES) + 1)
        assert set(different.values()) == {0}, (setting, different)
    numbers = {setting: dict(np.load(each)) for setting, each in file.items()}
    of = {
        signature: [
            {name: values for name, values in numbers[setting].items() if name.startswith(signature)}
            for setting in "01"
        ]
        for signature in OUTPUTS
    }
    farthest = {signature: distance(*pair) for signature, pair in of.items()}
    moved = {signature: differing(*pair) for signature, pair in of.items()}
    print(f"oneDNN on against off, {ROWS} rows: farthest {farthest}, numbers that differ {moved}")
    assert moved["transform"] == 0
    assert farthest["serving_default"] <= ONEDNN_BOUND


def test_litert_is_near(model, rows):
    columns = batches.file_columns(rows)
    found, exact = litert(model)("serving_default", columns), model.call("serving_default", columns)
    farthest = distance(exact, found)
    print(f"LiteRT, {ROWS} rows: farthest {farthest:.3g}, scores that differ {differing(exact, found)}")
    assert farthest <= LITERT_BOUND


def test_what_two_devices_trained_tells_frauds_from_others(made, two_devices):
    rows = score_rows(made.test_file, load_version(two_devices))
    assert rows.scores[rows.frauds].mean() > 3 * rows.scores[~rows.frauds].mean()
    assert [each.name for each in two_devices.parent.iterdir()] == ["1"]
