"""Fitting the network: epochs over the shards, what each was worth, and where to go on after a kill.

Whatever the next step depends on is in a checkpoint: weights, optimiser, state of dropout, the batch to be read next,
the losses so far, the best weights and how long ago they were the best. So a fit that was killed at any step and
started again ends with the same bits as one that was not (on CPU, with equal seed, devices and data).
"""

import contextlib
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

from plumbline.errors import Preempted, Refused
from training.calibration import UNCALIBRATED, Calibration, fit_calibration
from training.checkpoints import Checkpoint, newest_checkpoint, write_checkpoint
from training.dataset import Examples
from training.feed import training_batches
from training.fitting_log import FitLog
from training.held_out import HeldOut
from training.loop import Loop
from training.model import Network, build, edges_of
from training.placed import strategy
from training.recipe import Recipe, batch_of, computing, divided, identity, optimizer_of, schedule_of
from training.shards import Shards, write_shards

__all__ = ["Fitted", "OnEpoch", "Progress", "Recipe", "Tell", "fit", "strategy"]

STEPS_A_CALL: Final = 32
EVERY_STEPS: Final = 1000
"""Steps between two checkpoints, beside the one at the end of every epoch."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted network, in plain float32 variables outside any strategy; its losses by epoch; what the fit took.

    steps: taken by this process. timed_steps: those after the first call, which traces the graph, in `seconds`, of
    which `waiting_seconds` went by until rows had come; `saving_seconds`: for checkpoints. best_epoch: whose weights
    these are, from 1; None when nothing was held out. calibration: by the held-out rows.
    """

    network: Network
    losses: tuple[float, ...]
    validation_losses: tuple[float, ...]
    best_epoch: int | None = None
    calibration: Calibration = UNCALIBRATED
    steps: int = 0
    timed_steps: int = 0
    batch_rows: int = 0
    seconds: float = 0.0
    waiting_seconds: float = 0.0
    saving_seconds: float = 0.0

    @property
    def examples_per_second(self) -> float:
        """Rows that went through a step, a second."""
        return self.timed_steps * self.batch_rows / self.seconds if self.seconds else 0.0

    @property
    def input_share(self) -> float:
        """Share of the time in which the replicas had nothing to do but wait for rows."""
        return self.waiting_seconds / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a fit stands: steps done of all, epochs begun of all, the mean loss and the pace since the last report."""

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float
    examples_per_second: float
    input_share: float


OnEpoch = Callable[[int, int, dict[str, float]], None]
"""Called after each epoch with its number from 1, how many there are at most, and the losses."""
Tell = Callable[[Progress], None]
"""Called after every few steps."""


@dataclass(slots=True)
class _Standing:
    """Where a fit stands, as far as JSON can say it; it changes with every step."""

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    over: bool = False


def fit(
    train: Examples | Shards,
    vocabulary_sizes: list[int],
    recipe: Recipe,
    placed: Any,
    tensorboard: Path | None = None,
    on_epoch: OnEpoch = lambda epoch, epochs, losses: None,
    *,
    checkpoints: Path | None = None,
    every_steps: int = EVERY_STEPS,
    stop: Callable[[], bool] = lambda: False,
    tell: Tell = lambda progress: None,
    profile: range | None = None,
) -> Fitted:
    """Fit a network to rows in time order; the last of them, `validation_share`, only say when it was best.

    That slice is given up when it would hold fewer than 200 frauds.

    The loss is the mean log-likelihood of the rows, each as often as its weight says; AdamW under a cosine schedule.
    placed: see training.placed.strategy; checkpoints: folder in which a fit that was broken off goes on, shared by all
    workers; stop: asked every few steps, True ends the fit; profile: steps of which TensorFlow's profiler writes.
    Raises Preempted when it was told to stop, the checkpoint being written; Refused when the rows hold no fraud or
    nothing else, when a loss is no finite number, when a checkpoint is another fit's or cannot be written.
    """
    if isinstance(train, Examples):
        with tempfile.TemporaryDirectory(prefix="plumbline-examples-") as scratch:
            shards = write_shards(Path(scratch) / "examples", [train], vocabulary_sizes)
            return fit(
                shards, vocabulary_sizes, recipe, placed, tensorboard, on_epoch, checkpoints=checkpoints,
                every_steps=every_steps, stop=stop, tell=tell, profile=profile,
            )  # fmt: skip
    return _Fit(train, vocabulary_sizes, recipe, placed, tensorboard, profile, checkpoints, every_steps).run(
        stop, tell, on_epoch
    )


class _Fit:
    """One fit: what is fixed for all of it, and where it stands."""

    def __init__(
        self, shards: Shards, vocabulary_sizes: list[int], recipe: Recipe, placed: Any, tensorboard: Path | None,
        profile: range | None, checkpoints: Path | None, every_steps: int,
    ) -> None:  # fmt: skip
        self.shards, self.recipe, self.placed = shards, recipe, placed
        self.folder, self.every_steps = checkpoints, every_steps
        self.learn, self.check = divided(shards, recipe)
        learn = shards.totals(self.learn)
        rows, replicas = int(self.learn.stop), int(placed.num_replicas_in_sync)
        if not 0 < learn.frauds < rows:
            raise Refused(f"{rows} training rows hold {learn.frauds} frauds: train on other days")
        self.batch_rows = batch_of(recipe.batch_rows, rows, replicas)
        self.batches = rows // self.batch_rows
        resolver = getattr(placed, "cluster_resolver", None)
        self.workers = getattr(placed.extended, "_num_workers", 1)
        self.is_chief = self.workers == 1 or resolver is None or resolver.task_id == 0
        self.identity = identity(shards, recipe, vocabulary_sizes, placed)
        _seed_all(recipe.seed)
        edges, fraud_rate = edges_of(*shards.sample(self.learn)), learn.fraud_weight / learn.weight

        def fresh() -> Network:
            return build(edges, vocabulary_sizes, fraud_rate, recipe.shape, recipe.seed)

        with placed.scope(), computing(recipe.precision):
            self.network = fresh()
            self.schedule = schedule_of(recipe, self.steps)
            optimizer = optimizer_of(recipe, self.schedule)
            optimizer.build(self.network.whole.trainable_variables)
        self.plain = fresh()
        self.state = [*self.network.whole.variables, *optimizer.variables]
        self.loop = Loop(placed, self.network, optimizer, self.batch_rows, learn.weight / rows, self.workers)
        self.held_out = HeldOut(shards, self.check, self.plain)
        self.log = FitLog(tensorboard if self.is_chief else None, profile)
        self.best: list[Any] = []
        self.at = _Standing()
        self.seconds = self.waiting_seconds = self.saving_seconds = 0.0
        self.taken = self.timed_steps = 0

    @property
    def steps(self) -> int:
        """Of the whole fit, if no epoch is left out."""
        return self.recipe.epochs * self.batches

    @property
    def step(self) -> int:
        """Steps done."""
        return self.at.epoch * self.batches + self.at.batch

    def run(self, stop: Callable[[], bool], tell: Tell, on_epoch: OnEpoch) -> Fitted:
        self.restore()
        with contextlib.closing(self.log):
            while not self.at.over:
                for progress in self.epoch(stop):
                    tell(progress)
                figures = self.close_epoch()
                on_epoch(self.at.epoch, self.recipe.epochs, figures)
        self.plain.whole.set_weights(self.best or self.weights())
        line = UNCALIBRATED
        if self.held_out:
            logits, frauds, weights = self.held_out.logits()
            line = fit_calibration(logits, frauds > 0, weights.astype(np.float64))
        return Fitted(
            self.plain, tuple(self.at.losses), tuple(self.at.validation_losses), self.at.best_epoch, line,
            self.taken, self.timed_steps, self.batch_rows, self.seconds, self.waiting_seconds, self.saving_seconds,
        )  # fmt: skip

    def epoch(self, stop: Callable[[], bool]) -> Iterator[Progress]:
        """Take the steps that are left of an epoch."""
        if self.at.batch == self.batches:
            return
        feed = training_batches(
            self.shards, self.learn, self.batch_rows, self.recipe.seed, self.at.epoch, skipped=self.at.batch
        )
        iterator = iter(self.placed.experimental_distribute_dataset(feed))
        while self.at.batch < self.batches:
            self.log.before(self.step)
            left = min(self.batches - self.at.batch, self.every_steps - self.step % self.every_steps)
            began = time.perf_counter()
            done = self.loop.advance(iterator, min(STEPS_A_CALL, left), stop())
            seconds = time.perf_counter() - began
            self.refuse_what_is_not_finite(done.losses)
            self.at.batch += len(done.losses)
            for loss in done.losses.astype(np.float64).tolist():
                self.at.loss_sum += loss
            if self.taken:
                self.seconds += seconds
                self.waiting_seconds += done.waited_seconds
                self.timed_steps += len(done.losses)
            self.taken += len(done.losses)
            progress = Progress(
                self.step, self.steps, self.at.epoch + 1, self.recipe.epochs, float(np.mean(done.losses)),
                len(done.losses) * self.batch_rows / seconds, done.waited_seconds / seconds,
            )  # fmt: skip
            self.log.steps(progress, float(self.schedule(self.step)))
            if done.stopping:
                self.save()
                kept = (
                    f"go on from {self.folder}" if self.folder else "begin anew, as no folder for checkpoints was given"
                )
                raise Preempted(
                    f"stopped after step {self.step} of {self.steps}, as it was told to: start it again, to {kept}"
                )
            if self.step % self.every_steps == 0:
                self.save()
            yield progress

    def close_epoch(self) -> dict[str, float]:
        """What an epoch was worth, and whether it was the last one; returns its figures."""
        at = self.at
        at.losses.append(at.loss_sum / self.batches)
        at.epoch, at.batch, at.loss_sum = at.epoch + 1, 0, 0.0
        figures = {"loss": at.losses[-1]}
        weights = self.weights()
        if self.held_out:
            figures |= self.judged(weights)
            if figures["val_loss"] < min(at.validation_losses, default=np.inf):
                at.best_epoch, self.best = at.epoch, weights
            at.validation_losses.append(figures["val_loss"])
        idle = at.epoch - (at.best_epoch or at.epoch)
        at.over = at.epoch == self.recipe.epochs or idle >= self.recipe.patience
        self.log.epoch(self.step, figures)
        self.save()
        return figures

    def judged(self, weights: list[Any]) -> dict[str, float]:
        """Loss and average precision of the held-out rows, by the float32 network: by the numbers that would serve."""
        self.plain.whole.set_weights(weights)
        loss, precision = self.held_out.judge()
        if not np.isfinite(loss):
            raise Refused(f"the validation loss after step {self.step} is {loss}: {REMEDY}")
        if self.workers > 1:  # machines of two kinds may differ in a last bit, and must not decide differently
            loss = float(self.placed.reduce(tf.distribute.ReduceOp.MEAN, self.same(loss), None))
        return {"val_loss": loss, "val_ap": precision}

    def same(self, value: float) -> Any:
        """A number of this worker, on each of its replicas."""
        return self.placed.experimental_distribute_values_from_function(lambda _: tf.constant(value, tf.float64))

    def weights(self) -> list[Any]:
        """The network's weights as they are, float32."""
        return [np.array(each) for each in self.network.whole.get_weights()]

    def refuse_what_is_not_finite(self, losses: Any) -> None:
        if not np.all(np.isfinite(losses)):
            at = int(np.argmin(np.isfinite(losses)))
            raise Refused(f"the loss of step {self.step + at + 1} is {losses[at]}: {REMEDY}")

    def save(self) -> None:
        """Write a checkpoint, if this process is the one that does."""
        if self.folder is None or not self.is_chief:
            return
        began = time.perf_counter()
        arrays = {f"state-{at:04}": keras.ops.convert_to_numpy(each) for at, each in enumerate(self.state)}
        if not all(np.all(np.isfinite(each)) for name, each in arrays.items() if each.dtype.kind == "f"):
            raise Refused(f"weights are no finite numbers after step {self.step}: {REMEDY}")
        arrays |= {f"best-{at:04}": each for at, each in enumerate(self.best)}
        write_checkpoint(
            self.folder, self.step, Checkpoint(arrays, {"identity": self.identity, "standing": asdict(self.at)})
        )
        self.saving_seconds += time.perf_counter() - began

    def restore(self) -> None:
        """Stand where the newest checkpoint stood, if there is one."""
        found = newest_checkpoint(self.folder, self.identity) if self.folder is not None else None
        if found is not None:
            with self.placed.scope():
                for at, each in enumerate(self.state):
                    each.assign(found.arrays[f"state-{at:04}"])
            self.best = [found.arrays[name] for name in sorted(found.arrays) if name.startswith("best-")]
            self.at = _Standing(**found.meta["standing"])
        if self.workers > 1:
            mean = float(self.placed.reduce(tf.distribute.ReduceOp.MEAN, self.same(self.step), None))
            if mean != self.step:
                raise Refused(
                    f"this worker would go on from step {self.step}, others from another one: all workers need one "
                    f"folder of checkpoints, and {self.folder} is not shared"
                )


REMEDY: Final = "train with a lower learning rate, or in float32; the last checkpoint is from before"


def _seed_all(seed: int) -> None:
    random.seed(seed)
    keras.utils.set_random_seed(seed)
