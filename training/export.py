"""One SavedModel holds everything that turns a raw row into a score: transform, network, and the declaration's mark.

    serving_default   raw columns [n]  ─► score    float32 [n], a probability
    transform         raw columns [n]  ─► each feature by name, float32 [n] or int64 [n]
    explain           raw columns [n]  ─► effects  float32 [n, F], in the declaration's order: what the feature added
                                                   to the log-odds, against its mean or most frequent value;
                                          logit, baseline_logit  float32 [n], whose difference a row of effects is
    about             ping int64 [n]   ─► fingerprint and declaration (JSON), string scalars

Score, logit and effects are the calibrated ones (`training.calibration`): the line is part of every signature.

A plain tf.Module owns the parts, as Keras' own exporter loses the look-up tables of TFT's layer. Rows are padded to a
multiple of 192 inside every graph and XLA is off, so that a row's numbers are the same in a batch of any size.
"""

import errno
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from features.declaration import DECLARATION
from features.grammar import Declaration, encode
from features.preprocessing import index, padded, raw_spec, signature, vocabulary_table
from plumbline.policy import Policy
from training.calibration import UNCALIBRATED, Calibration
from training.explain import baseline_logit, effects, places
from training.files import CARD, DECLARATION_FILE, EXTRA, file_digests, page_file
from training.host import host_facts
from training.model import Network
from training.warmup import Columns, write_warm_up

Tensor = Any

POLICY_NAME: Final = "policy.json"

Page = Callable[[Mapping[str, Any]], bytes]
"""A version's card for people, as one HTML file, from what `plumbline.json` says of it."""


class Transform(tf.Module):
    """TFT's graph and the vocabularies it found, as a tf.function of raw columns: layer 3 without a network."""

    def __init__(self, analysis: Path, declaration: Declaration = DECLARATION) -> None:
        super().__init__()
        self.declaration = declaration
        output = tft.TFTransformOutput(str(analysis))
        # As an attribute of the exported object, or its vocabularies would be left behind.
        self.layer = output.transform_features_layer()
        vocabularies = {each.name: output.vocabulary_by_name(each.name) for each in declaration.categories}
        self.vocabulary_sizes = [len(vocabularies[each.name]) for each in declaration.categories]
        self.tables = {name: vocabulary_table(values) for name, values in vocabularies.items()}
        self.features = tf.function(self._features, input_signature=[signature(declaration)], jit_compile=False)

    def _features(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = self.layer({name: inputs[name] for name in raw_spec(self.declaration)})
        for each in self.declaration.categories:
            (column,) = each.inputs
            found[each.name] = index(inputs[column], self.tables[each.name])
        return {name: found[name] for name in self.declaration.feature_names}


class Exported(tf.Module):
    """Transform, network and calibration together; its tf.functions are the signatures."""

    def __init__(self, transform: Transform, network: Network, calibration: Calibration = UNCALIBRATED) -> None:
        super().__init__()
        self.calibration = calibration
        self.transform, self.tokens, self.head = transform, network.tokens, network.head
        self.layers = network.layers
        inputs = signature(transform.declaration)
        self.baseline = tf.Variable(network.baseline(len(transform.declaration.categories)), trainable=False)
        self.score = tf.function(self._score, input_signature=[inputs], jit_compile=False)
        self.explain = tf.function(self._explain, input_signature=[inputs], jit_compile=False)
        self.about = tf.function(
            self._about, input_signature=[tf.TensorSpec([None], tf.int64, "ping")], jit_compile=False
        )

    def tokens_of(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Tokens of the rows and of the padding, float32 [n + p, F, E]."""
        features = self.transform.features(inputs)
        declaration = self.transform.declaration
        numbers = tf.stack([features[each.name] for each in declaration.numbers], axis=1)
        categories = tf.stack([tf.cast(features[each.name], tf.int32) for each in declaration.categories], axis=1)
        return self.tokens([padded(numbers), padded(categories)], training=False)

    def calibrated(self, logits: Tensor) -> Tensor:
        """Logits of the network, any shape, brought onto the line that makes their scores probabilities."""
        return logits * np.float32(self.calibration.scale) + np.float32(self.calibration.bias)

    def _score(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        scores = tf.sigmoid(self.calibrated(self.head(self.tokens_of(inputs), training=False)[:, 0]))
        return {"score": scores[: tf.shape(inputs["history"])[0]]}

    def _explain(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        tokens, rows = self.tokens_of(inputs), tf.shape(inputs["history"])[0]
        added = effects(self.layers, tokens, self.baseline) * np.float32(self.calibration.scale)
        logit = self.calibrated(self.head(tokens, training=False)[:, 0])[:rows]
        return {
            "effects": tf.gather(added, places(self.transform.declaration), axis=1)[:rows],
            "logit": logit,
            "baseline_logit": tf.fill(tf.shape(logit), self.calibrated(baseline_logit(self.head, self.baseline))),
        }

    def _about(self, ping: Tensor) -> dict[str, Tensor]:
        declaration = self.transform.declaration
        return {
            "fingerprint": tf.constant(declaration.fingerprint),
            "declaration": tf.constant(encode(declaration)),
        }


def signatures(exported: Exported) -> dict[str, Any]:
    """Every signature by its name."""
    return {
        "serving_default": exported.score,
        "transform": exported.transform.features,
        "explain": exported.explain,
        "about": exported.about,
    }


def save(exported: Exported, scratch: Path) -> Path:
    """Write a SavedModel into a folder of a scratch folder, and return it; no server sees it there."""
    folder = scratch / "model"
    tf.saved_model.save(exported, str(folder), signatures=signatures(exported))
    return folder


def publish(
    folder: Path,
    base: Path,
    card: Mapping[str, Any],
    policy: Policy,
    declaration: Declaration = DECLARATION,
    rows: Columns | None = None,
    page: Page | None = None,
) -> Path:
    """Make a saved model the next version under a base path, at one stroke; returns its folder, named by a number.

    folder: on the base path's own disk; card: what `plumbline.json` says beside the model, to which `fingerprint` and
    `version` are added, the kind of host, and every other file's SHA-256; policy: what `policy.json` holds;
    declaration: what `declaration.json` holds, in full; rows: raw inputs that a server warms the version up with;
    page: makes `card.html`, the card for people, of what the card says before any digest stands in it.
    """
    extra = folder / EXTRA
    extra.mkdir(exist_ok=True)
    (folder / DECLARATION_FILE).write_bytes(msgspec.json.format(encode(declaration)) + b"\n")
    (extra / POLICY_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(policy)) + b"\n")
    write_warm_up(folder, base.name, declaration, rows)
    host = host_facts()
    while True:
        number = max(versions(base), default=0) + 1
        facts = {"version": number, "fingerprint": declaration.fingerprint, **card, "host": host}
        if page is not None:
            page_file(folder).write_bytes(page(facts))
        text = json.dumps({**facts, "files": file_digests(folder)}, indent=2, ensure_ascii=False)
        (folder / CARD).write_text(text + "\n", encoding="utf-8")
        try:
            return folder.rename(base / str(number))
        except OSError as error:
            # Another training took the number in between; a folder that holds something is never replaced.
            if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
                raise


def versions(base: Path) -> list[int]:
    """Numbers of the versions under a base path, lowest first."""
    return sorted(int(each.name) for each in base.iterdir() if each.name.isdigit()) if base.is_dir() else []
