"""Writes small, honest SavedModels for the tests of everything that talks to a model server.

`python -m tests.serving_model FOLDER` writes FOLDER/1 and FOLDER/2 (other weights, other fingerprint) and, beside
each, reference.npz with the answers of the loaded model to `columns(257)`, as the oracle of what is served.
FOLDER/examples reads tf.Example; FOLDER/mute and FOLDER/complex are to be refused.
Only running it imports TensorFlow; `columns` is for the tests themselves.
"""

import os
import sys
from pathlib import Path

import numpy as np

from serving.columns import NUMBERS, TEXTS, ModelColumns

MEASURES = 12
FEATURES = 7
FINGERPRINTS = {1: "00000000000000a1", 2: "00000000000000b2"}
VOCABULARY = {
    "currency": [b"EUR", b"USD", b"GBP"],
    "channel": [b"pos", b"ecom", b"atm"],
    "mcc": [b"5411", b"5812", b"6011"],
    "country": [b"DE", b"FR", b"CN"],
}


def columns(rows: int, seed: int = 1) -> ModelColumns:
    """Seeded columns of n rows; a quarter of the texts are not in the model's vocabularies."""
    random = np.random.default_rng(seed)
    numbers = {name: random.integers(0, 10**9, rows) for name in NUMBERS if name != "history"}
    texts = {}
    for name in TEXTS:
        known = [*VOCABULARY[name], b"other"]
        texts[name] = [known[index] for index in random.integers(0, len(known), rows)]
    return ModelColumns(history=random.integers(0, 10**6, (rows, MEASURES)), **numbers, **texts)


def write(folder: Path, version: int) -> None:
    """Write one version; its weights depend on the number alone."""
    import tensorflow as tf

    random = np.random.default_rng(version)

    class Scorer(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tables = {name: self.table(known) for name, known in VOCABULARY.items()}
            self.embeddings = {name: tf.Variable(random.normal(size=(4, 4)).astype(np.float32)) for name in VOCABULARY}
            self.hidden = tf.Variable(random.normal(size=(MEASURES + 4 + 16, 32)).astype(np.float32) / 8)
            self.last = tf.Variable(random.normal(size=(32, 1)).astype(np.float32) / 4)

        @staticmethod
        def table(known: list[bytes]) -> tf.lookup.StaticHashTable:
            pairs = tf.lookup.KeyValueTensorInitializer(tf.constant(known), tf.range(1, len(known) + 1, dtype=tf.int64))
            return tf.lookup.StaticHashTable(pairs, default_value=0)

        def numbers(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
            """float32 [n padded to a multiple of 64, MEASURES + 4 + 16]"""
            rows = tf.shape(inputs["history"])[0]
            padding = -rows % 64
            logs = [tf.concat([inputs["history"], *(inputs[name][:, None] for name in NUMBERS[1:])], 1)]
            logs = [tf.math.log1p(tf.cast(tf.abs(tf.pad(part, [[0, padding], [0, 0]])), tf.float32)) for part in logs]
            for name in TEXTS:
                indices = tf.pad(self.tables[name].lookup(inputs[name]), [[0, padding]])
                logs.append(tf.gather(self.embeddings[name], indices))
            return tf.concat(logs, 1)

        def score(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            hidden = tf.nn.relu(self.numbers(inputs) @ self.hidden)
            return {"score": tf.sigmoid(hidden @ self.last)[: tf.shape(inputs["history"])[0], 0]}

        def explain(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            effects = self.numbers(inputs)[: tf.shape(inputs["history"])[0], :FEATURES]
            logit = tf.reduce_sum(effects, axis=1)
            return {"effects": effects, "logit": logit, "baseline_logit": tf.zeros_like(logit)}

        def transform(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            numbers = self.numbers(inputs)[: tf.shape(inputs["history"])[0]]
            return {
                "amount_log": numbers[:, MEASURES + 1],
                "currency_index": self.tables["currency"].lookup(inputs["currency"]),
            }

        def about(self, ping: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"fingerprint": tf.constant(FINGERPRINTS[version]), "declaration": tf.constant(b"{}")}

    model = Scorer()
    inputs = {"history": tf.TensorSpec([None, MEASURES], tf.int64, "history")}
    inputs |= {name: tf.TensorSpec([None], tf.int64, name) for name in NUMBERS[1:]}
    inputs |= {name: tf.TensorSpec([None], tf.string, name) for name in TEXTS}
    ping = tf.TensorSpec([None], tf.int64, "ping")
    tf.saved_model.save(
        model,
        str(folder),
        signatures={
            "serving_default": tf.function(model.score).get_concrete_function(**inputs),
            "explain": tf.function(model.explain).get_concrete_function(**inputs),
            "transform": tf.function(model.transform).get_concrete_function(**inputs),
            "about": tf.function(model.about).get_concrete_function(ping=ping),
        },
    )


def write_examples(folder: Path) -> None:
    """Write a model that reads tf.Example, as estimators export them: its signatures share one input tensor."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        inputs, other = (v1.placeholder(tf.string, [None]) for _ in range(2))
        wanted = {"amount": tf.io.FixedLenFeature([], tf.float32), "country": tf.io.FixedLenFeature([], tf.string, "")}
        parsed = tf.io.parse_example(inputs, wanted)
        share = tf.clip_by_value(parsed["amount"] / 10, 0, 1)
        labels = tf.tile(tf.constant([["fraud", "honest"]]), [tf.shape(inputs)[0], 1])
        elsewhere = tf.io.parse_example(other, wanted)["amount"]

        def signature(given: tf.Tensor, outputs: dict[str, tf.Tensor], method: str) -> object:
            info = v1.saved_model.utils.build_tensor_info
            named = {name: info(tensor) for name, tensor in outputs.items()}
            return v1.saved_model.build_signature_def({"inputs": info(given)}, named, f"tensorflow/serving/{method}")

        both = {"classes": labels, "scores": tf.stack([share, 1 - share], 1)}
        signatures = {
            "serving_default": signature(inputs, both, "classify"),
            "countries": signature(inputs, {"classes": parsed["country"][:, None]}, "classify"),
            "regress": signature(inputs, {"outputs": parsed["amount"] * 2}, "regress"),
            "elsewhere": signature(other, {"outputs": elsewhere}, "regress"),
        }
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


def write_misfits(folder: Path) -> None:
    """Write models that no server should take into service: `mute` has no signature, `complex` an unheard-of type."""
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), str(folder / "mute"))
    spec = tf.TensorSpec([None], tf.complex64, "x")
    call = tf.function(lambda x: {"y": x}).get_concrete_function(x=spec)
    module = tf.Module()
    module.call = call
    tf.saved_model.save(module, str(folder / "complex"), signatures={"serving_default": call})


def write_reference(folder: Path) -> None:
    """Write what the loaded model answers to `columns(257)` beside its folder."""
    import tensorflow as tf

    asked = columns(257)
    loaded = tf.saved_model.load(str(folder))
    inputs = {name: tf.constant(getattr(asked, name)) for name in (*NUMBERS, *TEXTS)}
    np.savez(
        folder.with_name(f"reference-{folder.name}.npz"),
        score=loaded.signatures["serving_default"](**inputs)["score"].numpy(),
        effects=loaded.signatures["explain"](**inputs)["effects"].numpy(),
    )


if __name__ == "__main__":
    # Without Keras, which nothing here needs, TensorFlow is imported in two thirds of the time.
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    sys.modules["tf_keras"] = None  # type: ignore[assignment]
    for number in FINGERPRINTS:
        write(Path(sys.argv[1], str(number)), number)
        write_reference(Path(sys.argv[1], str(number)))
    write_examples(Path(sys.argv[1], "examples"))
    write_misfits(Path(sys.argv[1]))
