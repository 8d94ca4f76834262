"""Leaves a reference beside the model: features over the training rows and scores over the test rows, in bins."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow_transform as tft

from features.grammar import ABSENT, Declaration
from features.missing import missing
from features.reference import (
    SCORE_QUANTILES,
    Binned,
    Reference,
    counted,
    edges_of_categories,
    edges_of_numbers,
    reference_file,
)
from training.dataset import Examples
from training.metrics import Array
from training.shards import Shards
from training.windows import Windows


def make_reference(
    rows: Path, learnable: Examples | Shards, analysis: Path, scores: Array, windows: Windows, declaration: Declaration
) -> Reference:
    """The reference of a version.

    rows: Parquet file of the training rows, of which `learnable` are the features; analysis: TFT's folder, for the
    vocabularies; scores: float32, the version's own on the test days.
    """
    vocabularies = tft.TFTransformOutput(str(analysis))
    values: dict[str, Array] = {each.name: learnable.number(index) for index, each in enumerate(declaration.numbers)}
    values |= {each.name: learnable.category(index) for index, each in enumerate(declaration.categories)}
    found = []
    for feature in declaration.features:
        mine = values[feature.name]
        nothing = missing(feature, mine, lambda name: _column(rows, name))
        words: tuple[str, ...] = ()
        if feature.is_category:
            edges = edges_of_categories(mine)
            named = vocabularies.vocabulary_by_name(feature.name)[: len(edges)]
            words = tuple(word.decode("utf-8", "replace") for word in named)
        else:
            edges = edges_of_numbers(mine[~nothing])
        found.append(_binned(feature.name, edges, mine, nothing, words))
    never = np.zeros(len(scores), np.bool_)
    score = _binned("score", edges_of_numbers(scores, SCORE_QUANTILES), scores, never)
    return Reference(
        declaration=declaration,
        train=str(windows.train),
        test=str(windows.test),
        features=tuple(found),
        score=score,
    )


def write_reference(version: Path, reference: Reference) -> None:
    """Put a reference into a version's folder, where `features.reference.read_reference` finds it."""
    file = reference_file(version)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(msgspec.json.encode(reference) + b"\n")


def _binned(
    name: str, edges: tuple[float, ...], values: Array, nothing: npt.NDArray[np.bool_], words: tuple[str, ...] = ()
) -> Binned:
    counts = tuple(counted(edges, values, nothing).tolist())
    return Binned(name=name, edges=edges, counts=counts, words=words)


def _column(rows: Path, name: str) -> npt.NDArray[Any]:
    """One measure or raw integer of all rows, int64; a column at a time, since all of them may not fit in memory."""
    (column,) = pq.read_table(rows, columns=[name]).columns
    return np.asarray(column.cast(pa.int64()).fill_null(ABSENT), dtype=np.int64)
