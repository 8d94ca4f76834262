"""Fitting the network under MirroredStrategy: over all GPUs, or over as many logical CPU devices as asked for."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

from plumbline.errors import Refused
from training.dataset import Examples, batched
from training.model import Network, Shape, build, edges_of

WARM_UP: Final = 0.1
VALIDATION_FRAUDS: Final = 200
"""With fewer, a validation slice says less than it costs: then every row trains, and the schedule ends the fit."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is fitted; the global batch is the same on any number of devices."""

    shape: Shape = field(default_factory=Shape)
    epochs: int = 8
    batch_rows: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    validation_share: float = 0.1
    patience: int = 4
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted network, in plain variables outside any strategy, and its losses by epoch."""

    network: Network
    losses: tuple[float, ...]
    validation_losses: tuple[float, ...]


OnEpoch = Callable[[int, int, dict[str, float]], None]
"""Called after each epoch with its number from 1, how many there are at most, and the losses."""


def strategy(devices: int | None) -> Any:
    """MirroredStrategy over every GPU; over `devices` logical CPU devices (1 when None) where there is none.

    Must run before TensorFlow's first operation; raises Refused when the devices are settled already.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if devices is not None and devices > len(gpus):
            raise Refused(f"{devices} devices were asked for, but this machine has {len(gpus)} GPUs: ask for fewer")
        return tf.distribute.MirroredStrategy([f"GPU:{n}" for n in range(devices or len(gpus))])
    wanted = devices or 1
    _split_cpu(wanted)
    return tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(wanted)])


def fit(
    train: Examples,
    vocabulary_sizes: list[int],
    recipe: Recipe,
    placed: Any,
    tensorboard: Path | None = None,
    on_epoch: OnEpoch = lambda epoch, epochs, losses: None,
) -> Fitted:
    """Fit a network to rows in time order; the last of them, `validation_share`, only say when it was best.

    That slice is given up when it would hold fewer than 200 frauds.

    The loss is the mean log-likelihood; AdamW under a cosine schedule; equal seeds give equal weights on one device.
    Raises Refused when the rows hold no fraud or nothing else.
    """
    held = round(len(train) * recipe.validation_share)
    if np.count_nonzero(train.frauds[len(train) - held :]) < VALIDATION_FRAUDS:
        held = 0
    learn, check = train.take(slice(0, len(train) - held)), train.take(slice(len(train) - held, len(train)))
    fraud_rate = float(np.mean(learn.frauds, dtype=np.float64)) if len(learn) else 0.0
    if not 0 < fraud_rate < 1:
        raise Refused(f"{len(learn)} training rows hold {int(fraud_rate * len(learn))} frauds: train on other days")
    _seed_all(recipe.seed)
    edges = edges_of(learn.numbers)

    def fresh() -> Network:
        return build(edges, vocabulary_sizes, fraud_rate, recipe.shape, recipe.seed)

    batch = min(recipe.batch_rows, len(learn))
    steps = max(1, recipe.epochs * (len(learn) // batch))
    with placed.scope():
        network = fresh()
        schedule = keras.optimizers.schedules.CosineDecay(
            recipe.learning_rate * 0.05, steps, warmup_target=recipe.learning_rate, warmup_steps=int(steps * WARM_UP)
        )
        network.whole.compile(
            optimizer=keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay),
            loss=keras.losses.BinaryCrossentropy(from_logits=True),
            metrics=[keras.metrics.AUC(curve="PR", from_logits=True, name="ap")],
            jit_compile=False,
        )
    callbacks: list[Any] = [_Tell(on_epoch, recipe.epochs)]
    if len(check):
        stop = keras.callbacks.EarlyStopping("val_loss", patience=recipe.patience, restore_best_weights=True)
        callbacks.append(stop)
    if tensorboard is not None:
        callbacks.append(keras.callbacks.TensorBoard(str(tensorboard), write_graph=False))
    done = network.whole.fit(
        batched(learn, batch, recipe.seed),
        validation_data=batched(check, 8192, None) if len(check) else None,
        epochs=recipe.epochs,
        callbacks=callbacks,
        shuffle=False,  # the rows are, by their dataset
        verbose=0,
    )
    plain = fresh()
    plain.whole.set_weights(network.whole.get_weights())
    return Fitted(plain, tuple(done.history["loss"]), tuple(done.history.get("val_loss", ())))


class _Tell(keras.callbacks.Callback):
    def __init__(self, on_epoch: OnEpoch, epochs: int) -> None:
        super().__init__()
        self._on_epoch, self._epochs = on_epoch, epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._on_epoch(epoch + 1, self._epochs, {name: float(value) for name, value in (logs or {}).items()})


def _split_cpu(wanted: int) -> None:
    devices = [tf.config.LogicalDeviceConfiguration()] * wanted
    try:
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    except RuntimeError:  # TensorFlow has started: what there is must do
        found = len(tf.config.list_logical_devices("CPU"))
        if found < wanted:
            message = f"{wanted} devices were asked for, but TensorFlow has started with {found}: ask in a new process"
            raise Refused(message) from None


def _seed_all(seed: int) -> None:
    random.seed(seed)
    keras.utils.set_random_seed(seed)
