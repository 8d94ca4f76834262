"""What TensorBoard shows of a fit: losses, metrics, learning rate, pace and input share, a profile of some steps."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    from training.fit import Progress


class FitLog:
    """Writes into a folder; nothing when there is none. profile: steps that TensorFlow's profiler looks at."""

    def __init__(self, folder: Path | None, profile: range | None) -> None:
        self._writer = tf.summary.create_file_writer(str(folder)) if folder is not None else None
        self._folder, self._profile = folder, profile if folder is not None else None
        self._profiling = False

    def before(self, step: int) -> None:
        """Called before the steps from this one on: a profile begins or ends here."""
        if self._profile is None:
            return
        if not self._profiling and self._profile.start <= step < self._profile.stop:
            tf.profiler.experimental.start(str(self._folder))
            self._profiling = True
        elif self._profiling and step >= self._profile.stop:
            self._stop()

    def steps(self, progress: "Progress", learning_rate: float) -> None:
        """Figures of the steps up to one."""
        self._write(progress.step, {
            "fit/loss": progress.loss, "fit/learning_rate": learning_rate,
            "fit/examples_per_second": progress.examples_per_second, "fit/input_share": progress.input_share,
        })  # fmt: skip

    def epoch(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of an epoch that ends with a step."""
        self._write(step, {f"epoch/{name}": value for name, value in figures.items()})

    def close(self) -> None:
        """End a profile that goes on, and let the file go."""
        if self._profiling:
            self._stop()
        if self._writer is not None:
            self._writer.close()

    def _write(self, step: int, figures: Mapping[str, float]) -> None:
        with self._writer.as_default() if self._writer is not None else contextlib.nullcontext():
            if self._writer is not None:
                for name, value in figures.items():
                    tf.summary.scalar(name, value, step)

    def _stop(self) -> None:
        self._profiling, self._profile = False, None
        tf.profiler.experimental.stop()
