"""From a small archive to an exported model, and what that model promises: names, shapes, bits, reasons, LiteRT."""

import importlib.util
import json
import os
import shutil
from pathlib import Path

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from archive.manifest import file_sha256
from features.declaration import DECLARATION, FEATURE_NAMES, HISTORY_NAMES, fingerprint
from features.pieces import read_history
from features.preprocessing import Z_LIMIT, padded
from plumbline.cli.main import DONE, FAILED, USAGE, run
from plumbline.errors import FingerprintMismatch, Invalid, Refused, Unready
from plumbline.policy import Policy
from retrain.speed import STEPS_MS, measure
from serving.effects import incomplete
from training import faithful, litert
from training.costs import NEVER, Costs, choose, spent
from training.dataset import examples, frauds_known
from training.evaluate import load_version, score_rows
from training.explain import places
from training.export import publish, versions
from training.files import CARD, card_of, changed_files, file_digests
from training.host import host_facts
from training.past import ensure_history
from training.slices import first_seen, parts
from training.tail import newest_rows
from training.windows import Windows, parse_days

ROOT = Path(__file__).parents[2]
WINDOWS = Windows(parse_days("2019-04-23..2019-05-11"), 2, parse_days("2019-05-14..2019-05-18"))


def beside(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


small, batches = beside("small"), beside("batches")

NUMBERS, CATEGORIES = DECLARATION.numbers, DECLARATION.categories


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    return small.trained(folder, small.small_archive(folder / "archive"), WINDOWS)


@pytest.fixture(scope="module")
def model(made):
    return load_version(made.version)


def logit(scores):
    scores = scores.astype(np.float64)
    return np.log(scores / (1 - scores))


def test_the_loss_falls_and_unseen_frauds_score_high(made, model):
    assert made.fitted.losses[-1] < 0.8 * made.fitted.losses[0]
    rows = score_rows(made.test_file, model)
    assert rows.scores[rows.frauds].mean() > 3 * rows.scores[~rows.frauds].mean()


def test_signatures_have_the_names_types_and_shapes_that_clients_rely_on(model):
    inputs = model.model.signatures["serving_default"].structured_input_signature[1]
    wanted = {"history": ([None, len(HISTORY_NAMES)], tf.int64)}
    wanted |= {name: ([None], tf.int64) for name in ("occurred_at", "amount_minor", "latitude_e6", "longitude_e6")}
    wanted |= {name: ([None], tf.string) for name in ("currency", "channel", "mcc", "country")}
    assert {name: (spec.shape.as_list(), spec.dtype) for name, spec in inputs.items()} == wanted
    for n in (0, 1, 65):
        columns = small.raw_rows(n)
        score = model.call("serving_default", columns)
        assert list(score) == ["score"]
        assert (score["score"].dtype, score["score"].shape) == (np.float32, (n,))
        features = model.call("transform", columns)
        assert set(features) == set(FEATURE_NAMES)
        for each in (*NUMBERS, *CATEGORIES):
            expected = np.int64 if each.is_category else np.float32
            assert (features[each.name].dtype, features[each.name].shape) == (expected, (n,)), each.name
        effects = model.call("explain", columns)["effects"]
        assert (effects.dtype, effects.shape) == (np.float32, (n, len(FEATURE_NAMES)))
    about = model.model.signatures["about"](ping=tf.constant([1], tf.int64))["fingerprint"]
    assert about.numpy() == fingerprint().encode()


def test_every_number_is_finite_whatever_the_row(model):
    columns = small.raw_rows(4096, seed=5)
    scores = model.score(columns)
    assert np.all((scores >= 0) & (scores <= 1))
    features = model.call("transform", columns)
    for each in NUMBERS:
        assert np.all(np.abs(features[each.name]) <= Z_LIMIT), each.name


def test_a_row_has_the_same_bits_at_any_place_and_beside_any_rows(model):
    columns = small.raw_rows(300, seed=1)
    whole = model.score(columns)
    random = np.random.default_rng(2)
    for _ in range(20):
        rows = random.permutation(300)[: random.integers(1, 300)]
        assert np.array_equal(model.score({name: column[rows] for name, column in columns.items()}), whole[rows])


def test_what_trained_is_what_serves_to_the_bit(made, model):
    found = score_rows(made.test_file, model)
    features = examples(made.test_file, made.exported.transform.features)
    logits = made.fitted.network.whole(
        [tf.constant(features.numbers), tf.constant(features.categories)], training=False
    )
    calibrated = made.exported.calibrated(logits[:, 0])
    np.testing.assert_allclose(found.scores, tf.sigmoid(calibrated).numpy(), atol=1e-6)
    assert np.max(np.abs(found.scores - tf.sigmoid(logits[:, 0]).numpy())) > 0.01
    served = small.raw_rows(100)
    in_process = made.exported.transform.features({name: tf.constant(column) for name, column in served.items()})
    exported = model.call("transform", served)
    for name in FEATURE_NAMES:
        assert np.array_equal(in_process[name].numpy(), exported[name]), name


def test_effects_add_up_to_the_logit_less_the_baseline_s_on_rows_of_every_kind(made, model):
    rows = [small.raw_rows(4096, seed=6), batches.file_columns(made.test_file)]
    baselines = set()
    for columns in rows:
        found = model.call("explain", columns)
        assert incomplete(found["effects"], found["logit"], found["baseline_logit"]) < 0.2
        assert np.array_equal(tf.sigmoid(padded(found["logit"])).numpy()[: len(found["logit"])], model.score(columns))
        assert np.ptp(found["logit"]) > 1
        baselines |= set(found["baseline_logit"].tolist())
    assert len(baselines) == 1
    off = found["effects"].copy()
    off[3, 0] += 0.01
    assert incomplete(off, found["logit"], found["baseline_logit"]) > 1


def test_effects_are_the_gradient_s_integral_over_the_path_from_the_baseline(made, model):
    columns, points = small.raw_rows(16, seed=3), 2000
    found = model.call("explain", columns)["effects"]
    tokens, head = faithful.tokens_of(made.exported, columns), made.exported.head
    baseline = made.exported.baseline.numpy()
    share = ((np.arange(points, dtype=np.float32) + 0.5) / points)[:, None, None]
    for row, at in zip(tokens, range(16), strict=True):
        path = tf.constant(baseline + share * (row - baseline))
        with tf.GradientTape() as tape:
            tape.watch(path)
            logits = made.exported.calibrated(head(path, training=False))
        mean = tf.reduce_mean(tf.cast(tape.gradient(logits, path), tf.float64), axis=0).numpy()
        exact = (mean * (row - baseline)).sum(axis=1)[places(DECLARATION)]
        np.testing.assert_allclose(found[at], exact, atol=0.02)


def test_a_feature_at_its_baseline_has_no_effect_to_the_last_bit(made, model):
    columns = batches.file_columns(made.test_file)
    features, effects = model.call("transform", columns), model.call("explain", columns)["effects"]
    for each in CATEGORIES:
        usual = features[each.name] == 1
        assert 0 < np.count_nonzero(usual) < len(usual)
        assert not np.any(effects[usual, FEATURE_NAMES.index(each.name)])
        assert np.any(effects[~usual, FEATURE_NAMES.index(each.name)])


def test_taking_an_alert_s_first_reason_away_lowers_its_score_more_than_taking_another_one(made, model):
    columns = batches.file_columns(made.test_file)
    alerts = np.argsort(-model.score(columns))[:300]
    columns = {name: column[alerts] for name, column in columns.items()}
    effects = model.call("explain", columns)["effects"]
    found = faithful.first_reasons(made.exported, columns, effects, seed=1)
    assert found.compared == 300
    assert found.won > 0.9 * found.compared
    assert found.probability < 1e-6
    by_lot = np.random.default_rng(2).permuted(effects, axis=1)
    assert faithful.first_reasons(made.exported, columns, by_lot, seed=1).probability > 1e-3


def test_a_folder_with_the_files_of_two_models_is_refused(made, tmp_path):
    other = tmp_path / "1"
    shutil.copytree(made.version, other)
    card = other / CARD
    card.write_text(json.dumps({**json.loads(card.read_text()), "fingerprint": "0" * 16}))
    with pytest.raises(FingerprintMismatch, match="0000000000000000"):
        load_version(other)
    card.unlink()
    with pytest.raises(Refused, match=Path(CARD).name):
        load_version(other)


def test_the_card_lists_every_file_so_that_another_one_is_noticed(made, tmp_path):
    version = tmp_path / "1"
    shutil.copytree(made.version, version)
    card = card_of(version)
    assert card["host"] == host_facts()
    assert card["files"].keys() == file_digests(version).keys() >= {"saved_model.pb", "variables/variables.index"}
    assert changed_files(version, card["files"]) == []
    (version / "saved_model.pb").write_bytes((version / "saved_model.pb").read_bytes() + b"\0")
    (version / "variables" / "variables.index").unlink()
    assert changed_files(version, card["files"]) == ["saved_model.pb", "variables/variables.index"]


def test_a_version_brings_requests_of_real_rows_that_warm_a_server_up(made, model):
    """Read by TensorFlow and TensorFlow Serving's own classes, and answered by the version as its own rows are."""
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    file = made.version / "assets.extra" / "tf_serving_warmup_requests"
    assert "assets.extra/tf_serving_warmup_requests" in card_of(made.version)["files"]
    logs = [PredictionLog.FromString(each.numpy()) for each in tf.data.TFRecordDataset(str(file))]
    asked = [each.predict_log.request for each in logs]
    assert {each.model_spec.name for each in asked} == {"small"}
    sizes = {(each.model_spec.signature_name, len(tf.make_ndarray(next(iter(each.inputs.values()))))) for each in asked}
    assert sizes >= {(name, rows) for name in ("serving_default", "transform", "explain") for rows in (1, 64)}
    assert sizes >= {("serving_default", 512), ("about", 1)}
    for each in asked:
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in each.inputs.items()}
        assert model.call(each.model_spec.signature_name, inputs)
        if each.model_spec.signature_name == "serving_default":
            assert (inputs["amount_minor"] > 0).all()
            assert set(inputs["currency"]) <= {b"EUR", b"USD", b"GBP"}


def test_versions_count_up_and_never_replace_one(made, tmp_path):
    base = tmp_path / "base"
    (base / "7").mkdir(parents=True)
    (base / "7" / "saved_model.pb").touch()
    model = tmp_path / "model"
    model.mkdir()
    folder = publish(model, base, {}, Policy(version="p"))
    assert (folder.name, versions(base)) == ("8", [7, 8])
    assert json.loads((folder / CARD).read_text())["fingerprint"] == fingerprint()


def test_labels_count_from_when_they_were_known(made):
    all_known = frauds_known(made.archive, None)
    by_half = frauds_known(made.archive, small.FIRST + 25 * small.DAY)
    assert by_half < all_known
    assert 0.35 * len(all_known) < len(by_half) < 0.6 * len(all_known)


def test_history_is_computed_once(made):
    keep = (WINDOWS.train.since_us, WINDOWS.test.until_us)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in made.cache.rglob("*.parquet"))
    assert ensure_history(made.archive, made.cache, keep).parent == made.cache
    assert sorted((path.name, path.stat().st_mtime_ns) for path in made.cache.rglob("*.parquet")) == before


def test_thresholds_chosen_by_cost_keep_within_what_people_can_look_at(made, model):
    rows = score_rows(
        made.test_file, model, first_seen(made.archive.transactions(columns=("account_id", "occurred_at")))
    )
    chosen = choose(rows, Costs(review_share=0.05))
    found = spent(rows, chosen, Costs())
    assert 0 < found.review_share <= 0.05
    assert found.cost_minor < found.none_minor
    declined = rows.scores >= chosen.decline_at
    assert chosen.decline_at == NEVER or rows.frauds[declined].mean() >= 0.5
    assert {"channel=ecom", "country=FR", "amount_minor=2000..10000", "account=known"} <= set(parts(rows))


def test_size_and_speed_are_figures_of_its_files_and_its_single_rows(made, model):
    found = measure(model, made.version)
    assert found.model_bytes == sum(each.stat().st_size for each in made.version.rglob("*") if each.is_file())
    assert found.latency_ms in STEPS_MS


@pytest.fixture(scope="module")
def converted(model):
    return litert.convert(model)


def test_a_litert_file_scores_rows_of_every_kind_with_built_in_operations_alone(
    model, converted, tmp_path, monkeypatch
):
    monkeypatch.setattr(litert, "convert", lambda model: converted)
    columns = small.raw_rows(4096, seed=9)
    columns["currency"][:3] = [b"", "不".encode(), b"never seen"]
    done = litert.export(model, columns, tmp_path / "m.tflite", litert.DISTANCE_MOST)
    content = done.file.read_bytes()
    assert (len(content), done.rows, [each.name for each in tmp_path.iterdir()]) == (
        done.file_bytes,
        4096,
        ["m.tflite"],
    )
    assert b"FlexDelegate" not in content
    assert not [name for name in operations(content) if name.startswith(("Flex", "CUSTOM"))]
    call, exact = litert.interpreted(content), model.score(columns)
    for rows in (slice(0, 1), slice(1, 64), slice(0, 4096)):
        found = call({name: column[rows] for name, column in columns.items()})["score"]
        np.testing.assert_allclose(found, exact[rows], atol=litert.DISTANCE_MOST, rtol=0)
    assert done.distance <= litert.DISTANCE_MOST


def operations(content):
    """Names of the operations of a LiteRT file."""
    return {each["op_name"] for each in tf.lite.Interpreter(model_content=content)._get_ops_details()}


def test_a_litert_file_that_is_too_far_from_the_version_is_never_written(model, converted, tmp_path, monkeypatch):
    monkeypatch.setattr(litert, "convert", lambda model: converted)
    file, columns = tmp_path / "m.tflite", small.raw_rows(200)
    with pytest.raises(Refused, match="nothing was written"):
        litert.export(model, columns, file, most=0.0)
    with pytest.raises(Invalid, match="rows is 0"):
        litert.export(model, small.raw_rows(0), file, 1.0)
    assert not list(tmp_path.iterdir())
    with pytest.raises(Unready, match="cannot be written"):
        litert.export(model, columns, tmp_path / "no folder" / "m.tflite", 1.0)


def test_the_export_command_tries_the_file_on_an_archive_or_on_simulated_rows(
    made, converted, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("PLUMBLINE_MODEL_NAME", made.version.parent.name)
    monkeypatch.chdir(tmp_path)
    models = ["--models-dir", str(made.version.parent.parent)]
    command = ["models", "export", "--litert", "1", *models, "--rows", "2000"]
    given = ["--archive", str(made.archive.path), "--out", "m.tflite"]
    for options, name in ((given, "m.tflite"), ([], "small-1.tflite")):
        assert run([*command, *options, "--json"]) == DONE
        told = json.loads(capsys.readouterr().out)
        assert (told["file"], told["rows"], told["fingerprint"]) == (name, 2000, fingerprint())
        assert told["distance"] <= told["distance_most"] == litert.DISTANCE_MOST
        assert told["sha256"] == file_sha256(tmp_path / name)
        monkeypatch.setattr(litert, "convert", lambda model: converted)  # which takes seconds
    monkeypatch.setattr(litert, "DISTANCE_MOST", -1.0)
    assert run([*command, "--out", "never.tflite"]) == FAILED
    assert run([*command[:3], "2", *models]) == FAILED
    assert run(["models", "export", "1", *models]) == USAGE
    assert not Path("never.tflite").exists()


def test_the_newest_rows_of_an_archive_have_the_history_of_one_sweep(made):
    whole, last = newest_rows(made.archive, small.ROWS), newest_rows(made.archive, 100)
    assert (len(whole["history"]), len(last["history"])) == (small.ROWS, 100)
    keep = (WINDOWS.train.since_us, WINDOWS.test.until_us)
    history = read_history(ensure_history(made.archive, made.cache, keep))
    sequence = pa.Table.from_batches(made.archive.transactions(columns=("sequence",)))["sequence"].to_numpy()
    at = np.searchsorted(sequence, history["sequence"].to_numpy())
    beam = np.stack([history[name].to_numpy() for name in HISTORY_NAMES], axis=1)
    assert np.array_equal(whole["history"][at], beam)
    assert np.array_equal(whole["occurred_at"][-100:], last["occurred_at"])
