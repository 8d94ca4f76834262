"""The scoring signature for devices without TensorFlow: converted to LiteRT, and held against the SavedModel.

What is converted is the whole of it, from texts and integers to the score, with LiteRT's built-in operations alone.
Its kernels are others, so its scores are near and not equal: a file is written only when no score of the rows that it
was tried on lies farther from the SavedModel's than `DISTANCE_MOST`.
"""

import hashlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf

from features.analysis import Columns
from plumbline.errors import Invalid, Refused, Unready
from training.evaluate import Loaded
from training.metrics import Array

DISTANCE_MOST: Final = 5e-5
"""Of two scores of one row; docs/architecture.md has what was measured, a tenth of it. A fault moves scores by more."""

SCORING: Final = "serving_default"


@dataclass(frozen=True, slots=True)
class Export:
    """A file that was written: its bytes' SHA-256, on how many rows it was tried, and what was found there.

    distance: the largest between two scores of one row; different: scores that are not the same bits.
    """

    file: Path
    file_bytes: int
    sha256: str
    rows: int
    distance: float
    different: int


def convert(model: Loaded) -> bytes:
    """The scoring signature as a LiteRT file's bytes. Raises Refused when the built-in operations do not suffice."""
    served = model.model.signatures[SCORING]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([served], model.model)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        content: bytes = converter.convert()
    except Exception as error:  # the converter has no error class of its own that is public
        raise Refused(f"LiteRT's built-in operations cannot express this version: {error}") from error
    return content


def interpreted(content: bytes) -> Callable[[Columns], dict[str, Array]]:
    """The scoring signature of a LiteRT file's bytes as a function of raw columns, run in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it asks for another package to be installed
        run = tf.lite.Interpreter(model_content=content).get_signature_runner()

    def call(columns: Columns) -> dict[str, Array]:
        # It takes texts as an array of bytes, not of objects.
        return dict(run(**{name: _plain(column) for name, column in columns.items()}))

    return call


def export(model: Loaded, columns: Columns, file: Path, most: float) -> Export:
    """Convert a version, try it on raw columns of n rows, and write it: whole, or not at all; most: see DISTANCE_MOST.

    Raises Invalid when there is no row to try it on, Refused when a score lies farther than `most` from the
    SavedModel's, Unready when the file cannot be written.
    """
    rows = len(columns["history"])
    if not rows:
        raise Invalid("LiteRT export", "rows", rows, "1 or more, to try the file on")
    content = convert(model)
    exact, found = model.score(columns), interpreted(content)(columns)["score"]
    apart = np.abs(found.astype(np.float64) - exact)
    distance = float(np.max(apart))
    if not distance <= most:  # a NaN is no distance either
        worst = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
        raise Refused(
            f"the LiteRT file scores row {worst} of {rows:,} as {found[worst]}, the SavedModel as {exact[worst]}: "
            f"expected scores within {most:g} of each other; nothing was written"
        )
    _write_whole(file, content)
    different = int(np.count_nonzero(exact.view(np.uint32) != found.view(np.uint32)))
    return Export(file, len(content), hashlib.sha256(content).hexdigest(), rows, distance, different)


def _plain(column: Any) -> Any:
    return np.array(column.tolist(), np.bytes_) if column.dtype == object else column


def _write_whole(file: Path, content: bytes) -> None:
    """Under another name first, so that nobody ever reads half a model."""
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(file)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise Unready(f"{file} cannot be written ({error.strerror}): make room or rights there") from error
