"""The recipe of a fit, and what follows from it: which rows train, a batch's size, optimiser and schedule."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

from plumbline.errors import Invalid, Refused
from training.model import Shape
from training.shards import Shards

WARM_UP: Final = 0.1
VALIDATION_FRAUDS: Final = 200
"""With fewer, a validation slice says less than it costs: then every row trains, and the schedule ends the fit."""
POLICIES: Final = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
"""What Keras calls a precision of training: variables, losses and logits stay float32."""


class InvalidRecipe(Invalid):
    """A way of fitting that does not exist."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is fitted; the global batch is the same on any number of devices.

    precision: of products in training, float32, bfloat16 or float16; what is exported computes in float32.
    """

    shape: Shape = field(default_factory=Shape)
    epochs: int = 8
    batch_rows: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    validation_share: float = 0.1
    patience: int = 4
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.precision not in POLICIES:
            raise InvalidRecipe("recipe", "precision", self.precision, ", ".join(POLICIES))
        if not 0 <= self.validation_share < 1:
            raise InvalidRecipe("recipe", "validation_share", self.validation_share, "0 or more, below 1")
        if min(self.epochs, self.batch_rows) < 1:
            raise InvalidRecipe("recipe", "epochs, batch_rows", (self.epochs, self.batch_rows), "1 or more")


def divided(shards: Shards, recipe: Recipe) -> tuple[slice, slice]:
    """The rows that train, and those that are held out."""
    rows = len(shards)
    first = rows - round(rows * recipe.validation_share)
    if shards.totals(slice(first, rows)).frauds < VALIDATION_FRAUDS:
        first = rows
    return slice(0, first), slice(first, rows)


def batch_of(wanted: int, rows: int, replicas: int) -> int:
    """Rows of a global batch, the same share for every replica."""
    if rows < replicas:
        raise Refused(f"{rows} training rows are fewer than {replicas} devices: train on one")
    if rows < wanted:
        return rows - rows % replicas
    if wanted % replicas:
        raise Refused(f"a batch of {wanted} rows cannot be shared by {replicas} devices: take as many as divide it")
    return wanted


def identity(shards: Shards, recipe: Recipe, vocabulary_sizes: list[int], placed: Any) -> Mapping[str, Any]:
    """What must be equal for a checkpoint to be this fit's, as JSON would give it back."""
    facts = {name: value for name, value in asdict(recipe).items() if name != "shape"}
    return {
        **facts, "shape": asdict(recipe.shape), "examples": shards.digest, "vocabulary_sizes": list(vocabulary_sizes),
        "devices": placed.num_replicas_in_sync, "tensorflow": tf.__version__, "numpy": np.__version__,
    }  # fmt: skip


def schedule_of(recipe: Recipe, steps: int) -> Any:
    """Learning rates: a tenth of the steps up, then down along a cosine."""
    return keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate * 0.05, steps, warmup_target=recipe.learning_rate, warmup_steps=int(steps * WARM_UP)
    )


def optimizer_of(recipe: Recipe, schedule: Any) -> Any:
    """AdamW, with its losses scaled where float16 could not hold their gradients."""
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay)
    return keras.optimizers.LossScaleOptimizer(optimizer) if recipe.precision == "float16" else optimizer


@contextlib.contextmanager
def computing(precision: str) -> Iterator[None]:
    """Layers that are made meanwhile compute in a precision; their variables are float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
