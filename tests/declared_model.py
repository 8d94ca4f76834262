"""Writes a small SavedModel of today's declaration, for tests in which scorer, model server and audit must agree.

`python -m tests.declared_model FOLDER [VERSION ...]` writes FOLDER/1, or each version named. The version seeds its
weights; nothing was learnt.
"""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from features.declaration import DECLARATION, FEATURE_NAMES, HISTORY_NAMES, fingerprint
from features.grammar import encode
from serving.columns import NUMBERS, TEXTS


def declared_models(factory: pytest.TempPathFactory, versions: int = 1) -> Path:
    """The folder with so many versions, made once for all workers of a test run."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / f"declared-models-{versions}"
    numbers = [str(number) for number in range(1, versions + 1)]
    with (shared / "declared-models.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / numbers[-1]).exists():
            made = [sys.executable, "-m", "tests.declared_model", str(folder), *numbers]
            subprocess.run(made, check=True, capture_output=True)
    return folder


def write(folder: Path, version: int) -> None:
    """Write a version into a folder that does not have it yet."""
    import tensorflow as tf

    from training.files import file_digests
    from training.host import host_facts

    random = np.random.default_rng(4 + version)
    width = len(HISTORY_NAMES) + len(NUMBERS) - 1

    class Scorer(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spread = tf.constant(random.integers(-100, 100, (width, len(FEATURE_NAMES))))

        def mixed(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
            """int64 [n padded to a multiple of 64, features], from -500 to 500: integers add up alike in any order."""
            columns = tf.concat([inputs["history"], *(inputs[name][:, None] for name in NUMBERS[1:])], 1)
            columns = tf.pad(columns, [[0, -tf.shape(columns)[0] % 64], [0, 0]])
            return (columns % 10_007) @ self.spread % 1001 - 500

        def effects(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
            """float32 [n, features]"""
            return tf.cast(self.mixed(inputs)[: tf.shape(inputs["history"])[0]], tf.float32) / 250

        def explain(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            effects = self.effects(inputs)
            logit = tf.reduce_sum(effects, axis=1)
            return {"effects": effects, "logit": logit, "baseline_logit": tf.zeros_like(logit)}

        def transform(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            effects = self.effects(inputs)
            return {name: effects[:, n] for n, name in enumerate(FEATURE_NAMES)}

        def score(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            sums = tf.reduce_sum(self.mixed(inputs), axis=1)[: tf.shape(inputs["history"])[0]]
            texts = tf.strings.length(tf.strings.join([inputs[name] for name in TEXTS]))
            return {"score": tf.cast((sums + tf.cast(texts, tf.int64)) % 9973, tf.float32) / 9973}

        def about(self, ping: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"fingerprint": tf.constant(fingerprint()), "declaration": tf.constant(encode(DECLARATION))}

    model = Scorer()
    inputs = {"history": tf.TensorSpec([None, len(HISTORY_NAMES)], tf.int64, "history")}
    inputs |= {name: tf.TensorSpec([None], tf.int64, name) for name in NUMBERS[1:]}
    inputs |= {name: tf.TensorSpec([None], tf.string, name) for name in TEXTS}
    unfinished = folder / "unfinished"
    tf.saved_model.save(
        model,
        str(unfinished),
        signatures={
            "serving_default": tf.function(model.score).get_concrete_function(**inputs),
            "explain": tf.function(model.explain).get_concrete_function(**inputs),
            "transform": tf.function(model.transform).get_concrete_function(**inputs),
            "about": tf.function(model.about).get_concrete_function(ping=tf.TensorSpec([None], tf.int64, "ping")),
        },
    )
    extra = unfinished / "assets.extra"
    extra.mkdir()
    (extra / "declaration.json").write_bytes(encode(DECLARATION))
    card = {"version": version, "fingerprint": fingerprint(), "host": host_facts(), "files": file_digests(unfinished)}
    (extra / "plumbline.json").write_text(json.dumps(card))
    unfinished.rename(folder / str(version))


if __name__ == "__main__":
    # Without Keras, which nothing here needs, TensorFlow is imported in two thirds of the time.
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    sys.modules["tf_keras"] = None  # type: ignore[assignment]
    for number in sys.argv[2:] or ["1"]:
        write(Path(sys.argv[1]), int(number))
