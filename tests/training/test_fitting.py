"""A fit goes on after a kill with the same bits, takes the same batches on any devices, and refuses what is none."""

import errno
import importlib.util
import itertools
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")

import numpy as np
import pytest
import tensorflow as tf

from plumbline.errors import InvalidSetting, Preempted, Refused
from training import checkpoints
from training.checkpoints import Checkpoint, newest_checkpoint, write_checkpoint
from training.dataset import Examples, InvalidExamples
from training.feed import checking_batches, training_batches
from training.fit import Fitted, _Fit, fit
from training.model import Shape
from training.order import in_order, place_of, shuffled
from training.placed import Cluster, cluster, strategy
from training.recipe import InvalidRecipe, Recipe
from training.shards import MANIFEST, open_shards, write_shards

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("fitting_process.py")
SMALL = Recipe(epochs=2, batch_rows=128, shape=Shape(token=4, width=16))


def beside(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


process = beside("fitting_process")


@pytest.fixture(scope="module", autouse=True)
def two_devices():
    """Two logical CPU devices for this process, settled before TensorFlow's first operation."""
    return strategy(2)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards") / "examples", [process.rows()], process.SIZES, "made", 512)


def one_device():
    return tf.distribute.MirroredStrategy(["CPU:0"])


@dataclass(frozen=True)
class Logged:
    """A float32 fit on one device, stopped once on the way: where it logged, and the figures of its last epoch."""

    fitted: Fitted
    figures: dict[str, float]
    checkpoints: Path
    logs: Path


@pytest.fixture(scope="module")
def logged(shards, tmp_path_factory):
    folder, figures = tmp_path_factory.mktemp("logged"), {}
    made = Logged(None, figures, folder / "kept", folder / "logs")
    with pytest.raises(Preempted, match="start it again"):
        fit(shards, process.SIZES, SMALL, one_device(), checkpoints=made.checkpoints, stop=lambda: True)
    fitted = fit(
        shards, process.SIZES, SMALL, one_device(), made.logs, checkpoints=made.checkpoints, profile=range(40, 60),
        on_epoch=lambda epoch, epochs, found: figures.update(found),
    )  # fmt: skip
    return replace(made, fitted=fitted)


class Program:
    """`fitting_process` at work: TensorFlow is imported once for all that is asked of it."""

    def __init__(self, log):
        self.log = log
        self._errors = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, PROGRAM], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self._errors, text=True,
        )  # fmt: skip

    def asked(self, mode, folder, **more):
        print(json.dumps({"mode": mode, "folder": str(folder), **more}), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline() or "null")
        assert answer is not None, self.log.read_text()[-2000:]
        return answer

    def close(self):
        self._process.communicate()
        self._errors.close()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    made = Program(tmp_path_factory.mktemp("program") / "errors.txt")
    yield made
    made.close()


def test_a_fit_that_was_killed_and_told_to_stop_ends_with_the_bits_of_one_that_was_not(program, tmp_path):
    random = np.random.default_rng(7)
    early, end = sorted(random.choice(np.arange(1, 80), 2, replace=False).tolist())
    whole = program.asked("whole", tmp_path / "whole")
    killed = program.asked("killed", tmp_path / "killed", kills=[f"{early}:KILL", f"{end}:TERM"])
    attempts = killed.pop("attempts")
    assert [status for status, _ in attempts] == [-9, 75, 0]
    assert "start it again" in program.log.read_text()
    firsts = [steps[0] for _, steps in attempts]
    assert firsts[0] < firsts[-1]  # they went on, and did not begin anew
    assert all(before[1][-1] <= after[1][0] for before, after in itertools.pairwise(attempts))
    whole.pop("attempts")
    assert killed == whole


def test_two_workers_come_to_the_same_weights_and_near_those_of_one_device(program, tmp_path):
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            ports.append(free.getsockname()[1])
    said = {"cluster": {"worker": [f"localhost:{port}" for port in ports]}}
    clusters = [json.dumps({**said, "task": {"type": "worker", "index": index}}) for index in range(2)]
    first, second = program.asked("workers", tmp_path / "shared", clusters=clusters)
    assert first == second
    plain = replace(SMALL, shape=Shape(token=4, width=16, dropout=0.0))
    alone = fit(open_shards(tmp_path / "shared" / "examples"), process.SIZES, plain, one_device())
    np.testing.assert_allclose(first["losses"], alone.losses, rtol=1e-4)
    np.testing.assert_allclose(first["validation_losses"], alone.validation_losses, rtol=1e-3)


def test_the_global_batch_is_the_same_on_two_devices_and_nothing_is_traced_twice(shards, two_devices):
    plain = replace(SMALL, shape=Shape(token=4, width=16, dropout=0.0))
    one = fit(shards, process.SIZES, plain, one_device())
    fitting = _Fit(shards, process.SIZES, plain, two_devices, None, None, None, 1000)
    two = fitting.run(lambda: False, lambda progress: None, lambda *figures: None)
    np.testing.assert_allclose(one.losses, two.losses, rtol=1e-4)
    assert fitting.loop.advance_in_graph.experimental_get_tracing_count() == 1
    assert fitting.held_out.forward.experimental_get_tracing_count() == 1
    assert not fitting.loop.advance_in_graph._jit_compile
    assert 0 < two.input_share < 1
    assert two.examples_per_second > 0


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_keeps_the_metrics_and_exports_float32(shards, precision, two_devices, logged):
    figures = {}
    placed = two_devices if precision == "float16" else one_device()
    mixed = fit(
        shards, process.SIZES, replace(SMALL, precision=precision), placed,
        on_epoch=lambda epoch, epochs, found: figures.update(found),
    )  # fmt: skip
    assert abs(figures["val_ap"] - logged.figures["val_ap"]) < 0.02
    assert abs(figures["val_loss"] - logged.figures["val_loss"]) < 0.02
    assert {each.dtype.name for each in mixed.network.whole.get_weights()} == {"float32"}
    assert {layer.compute_dtype for layer in mixed.network.whole._flatten_layers()} == {"float32"}


def ids(feed):
    return np.concatenate([frauds.numpy()[weights > 0] for _, _, frauds, weights in feed])


def test_an_epoch_reads_every_row_once_in_its_own_order_and_goes_on_at_any_batch(tmp_path):
    given = replace(process.rows(), frauds=np.arange(6000, dtype=np.float32))
    shards = write_shards(
        tmp_path / "examples", [given.take(slice(0, 700)), given.take(slice(700, 6000))], [8, 8], "", 100
    )
    rows = slice(50, 5950)
    whole = ids(training_batches(shards, rows, 100, 3, 0))
    assert np.array_equal(np.sort(whole), np.arange(50, 5950))
    assert not np.array_equal(whole, ids(training_batches(shards, rows, 100, 3, 1)))
    for skipped in (1, 15, 16, 17, 40, 58):
        assert np.array_equal(ids(training_batches(shards, rows, 100, 3, 0, skipped)), whole[100 * skipped :]), skipped
    assert np.array_equal(ids(checking_batches(shards, rows, 512)), np.arange(50, 5950))
    numbers, categories, frauds, weights = next(iter(training_batches(shards, rows, 100, 3, 0)))
    at = frauds.numpy().astype(int)
    assert np.array_equal(numbers, given.numbers[at])
    assert np.array_equal(categories, given.categories[at])
    assert np.array_equal(weights, given.weights[at])
    assert np.array_equal(shards.examples().numbers, given.numbers)
    numbers, frauds = shards.sample(slice(50, 5950), 1000)
    assert np.array_equal(numbers, given.numbers[50:5950:6])
    assert np.array_equal(frauds, given.frauds[50:5950:6])
    assert shards.totals(slice(10, 5000)).weight == given.weights[10:5000].sum()


def test_the_order_of_an_epoch_is_a_function_of_seed_and_epoch():
    lengths = [5, 7, 1, 9] * 10
    pieces = shuffled(lengths, slice(3, 200), 1, 0)
    assert pieces.rows.sum() == 197
    assert np.array_equal(pieces.shard, shuffled(lengths, slice(3, 200), 1, 0).shard)
    assert not np.array_equal(pieces.shard, shuffled(lengths, slice(3, 200), 1, 1).shard)
    assert np.array_equal(in_order([4, 4], slice(2, 7)).rows, [2, 3])
    assert place_of(pieces, 0) == (0, 0)
    first = int(pieces.rows[:16].sum())
    assert place_of(pieces, first) == (1, 0)
    assert place_of(pieces, first - 1) == (0, first - 1)


def test_a_changed_a_cut_and_a_missing_shard_are_refused(tmp_path, shards):
    folder = tmp_path / "examples"
    write_shards(folder, [process.rows()], process.SIZES, "", 4096)
    file = folder / "examples-00001.bin"
    content = file.read_bytes()
    file.write_bytes(content[:-4])
    with pytest.raises(Refused, match="should be"):
        open_shards(folder)
    file.write_bytes(b"\1" + content[1:])
    with pytest.raises(Refused, match="was changed"):
        open_shards(folder)
    file.unlink()
    with pytest.raises(Refused, match="gone"):
        open_shards(folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(Refused, match="holds no examples"):
        open_shards(folder)
    with pytest.raises(Refused, match="not one row"):
        write_shards(tmp_path / "none", [], [])
    assert not (tmp_path / "none").exists()


def test_rows_of_one_class_strange_weights_and_recipes_are_refused(shards, two_devices):
    given = process.rows()
    for truth in (0, 1):
        with pytest.raises(Refused, match="frauds: train on other days"):
            fit(replace(given, frauds=np.full(6000, truth, np.float32)), process.SIZES, SMALL, two_devices)
    with pytest.raises(InvalidExamples, match="weight"):
        Examples(given.numbers, given.categories, given.frauds, np.zeros(6000, np.float32))
    with pytest.raises(InvalidRecipe, match="float32, bfloat16, float16"):
        Recipe(precision="float8")
    with pytest.raises(Refused, match="cannot be shared by 2 devices"):
        fit(shards, process.SIZES, replace(SMALL, batch_rows=127), two_devices)


@pytest.mark.parametrize(
    ("unfit", "refusal"),
    [
        # Where a processor's minimum takes NaN for the limit, the weights are the first to be none.
        ({"numbers": np.nan}, r"(loss of step \d+ is nan|no finite numbers after step \d+): train with a lower"),
        ({"learning_rate": 1e20}, r"loss of step \d+ is (nan|inf): train with a lower learning rate"),
    ],
    ids=["numbers", "learning rate"],
)  # fmt: skip
def test_a_loss_that_is_no_number_is_refused_with_its_step_and_the_checkpoint_before_it_stays(tmp_path, unfit, refusal):
    given = process.rows()
    given.numbers[3000:] = unfit.pop("numbers", given.numbers[3000:])
    with pytest.raises(Refused, match=refusal):
        fit(given, process.SIZES, replace(SMALL, **unfit), one_device(), checkpoints=tmp_path, every_steps=1)
    for file in checkpoints.files(tmp_path):
        with np.load(file) as opened:
            assert all(np.isfinite(opened[name]).all() for name in opened.files if name != "meta")


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    held = Checkpoint({"a": np.arange(3.0)}, {"identity": {"seed": 1}})
    write_checkpoint(tmp_path, 1, held)

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("training.checkpoints.os.fsync", full)
    with pytest.raises(Refused, match=r"step 2 cannot be written.*No space left.*step-000000001.npz, stays"):
        write_checkpoint(tmp_path, 2, held)
    assert [each.name for each in tmp_path.iterdir()] == ["step-000000001.npz"]
    assert np.array_equal(newest_checkpoint(tmp_path, {"seed": 1}).arrays["a"], np.arange(3.0))


def test_a_broken_checkpoint_is_passed_over_and_another_fit_s_is_refused(tmp_path):
    for step in (1, 2, 3):
        write_checkpoint(tmp_path, step, Checkpoint({"a": np.full(9, step)}, {"identity": {"seed": 1}}))
    assert [each.name for each in checkpoints.files(tmp_path)] == ["step-000000002.npz", "step-000000003.npz"]
    newest = checkpoints.files(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:-30])
    assert newest_checkpoint(tmp_path, {"seed": 1}).arrays["a"][0] == 2
    with pytest.raises(Refused, match="seed is 1 there and 2 here"):
        newest_checkpoint(tmp_path, {"seed": 2})


def test_a_stopped_fit_says_where_it_is_and_tensorboard_has_its_figures(shards, logged):
    again = fit(shards, process.SIZES, SMALL, one_device(), checkpoints=logged.checkpoints)
    assert again.steps == 0
    assert again.losses == logged.fitted.losses
    assert all(
        np.array_equal(one, other)
        for one, other in zip(logged.fitted.network.whole.get_weights(), again.network.whole.get_weights(), strict=True)
    )
    (events,) = logged.logs.glob("events*")
    tags = {value.tag for event in tf.compat.v1.train.summary_iterator(str(events)) for value in event.summary.value}
    assert tags >= {"fit/loss", "fit/learning_rate", "fit/input_share", "epoch/val_loss", "epoch/val_ap", "epoch/loss"}
    assert list(logged.logs.rglob("*.xplane.pb"))


def test_tf_config_tells_the_cluster(two_devices):
    assert cluster({}) == Cluster(0, 1)
    text = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'
    assert cluster({"TF_CONFIG": text}) == Cluster(1, 2)
    for wrong in ("{", "[]", text.replace("1}", "2}"), text.replace('"worker": [', '"ps": [')):
        with pytest.raises(InvalidSetting, match="TF_CONFIG"):
            cluster({"TF_CONFIG": wrong})
    with pytest.raises(Refused, match="one machine"):
        strategy(2, Cluster(0, 2))
