"""The training loop inside the graph: some dozens of steps a call, on every replica, and how long they waited for rows.

A call's graph is traced once for a fit, whatever the number of steps. XLA is off: what is fitted is exported, and an
exported graph promises equal bits for a row in any batch, which XLA's own kernels do not keep.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from training.model import Network

Tensor = Any


@dataclass(frozen=True, slots=True)
class Advanced:
    """What some steps came to: the loss of each, float32 [k]; seconds waited for rows; whether any worker must stop."""

    losses: npt.NDArray[np.float32]
    waited_seconds: float
    stopping: bool


class Loop:
    """A network and an optimiser on the replicas of a strategy, in whose scope both were made."""

    def __init__(
        self, placed: Any, network: Network, optimizer: Any, batch_rows: int, mean_weight: float, workers: int
    ) -> None:
        self._placed, self._network, self._optimizer, self._workers = placed, network, optimizer, workers
        self._row_share = np.float32(1 / (batch_rows * mean_weight))
        self._variables = network.whole.trainable_variables
        self._guarded = isinstance(optimizer, keras.optimizers.LossScaleOptimizer) and placed.num_replicas_in_sync > 1
        self.advance_in_graph = tf.function(self._advance, jit_compile=False)

    def advance(self, iterator: Any, steps: int, stop: bool) -> Advanced:
        """Take the next steps. stop: this worker was told to end; the answer says whether any was."""
        losses, waited, asked = self.advance_in_graph(iterator, tf.constant(steps), tf.constant(int(stop)))
        return Advanced(losses.numpy(), float(waited), int(asked) > 0)

    def _advance(self, iterator: Any, steps: Tensor, stop: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        losses = tf.TensorArray(tf.float32, steps, element_shape=[])
        waited = tf.constant(0, tf.float64)
        for number in tf.range(steps):
            before = tf.timestamp()
            with tf.control_dependencies([before]):
                batch = next(iterator)
            with tf.control_dependencies(self._placed.experimental_local_results(batch[2])):
                waited += tf.timestamp() - before
            loss = self._placed.reduce(tf.distribute.ReduceOp.SUM, self._placed.run(self._step, batch), None)
            losses = losses.write(number, loss)
        if self._workers > 1:
            stop = self._placed.reduce(tf.distribute.ReduceOp.SUM, self._placed.run(lambda: tf.identity(stop)), None)
        return losses.stack(), waited, stop

    def _step(self, numbers: Tensor, categories: Tensor, frauds: Tensor, weights: Tensor) -> Tensor:
        """One replica's part of a step; returns its part of the batch's loss."""
        network, optimizer = self._network.whole, self._optimizer
        with tf.GradientTape() as tape:
            logits = tf.cast(network([numbers, categories], training=True), tf.float32)
            truth = tf.broadcast_to(frauds[:, None], tf.shape(logits))
            by_row = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(truth, logits), axis=1)
            loss = tf.reduce_sum(by_row * weights) * self._row_share
            whole = loss
            if network.losses:
                whole += tf.add_n(network.losses) / self._placed.num_replicas_in_sync
            scaled = optimizer.scale_loss(whole)
        gradients = tape.gradient(scaled, self._variables)
        if self._guarded:
            gradients = _all_or_none(gradients)
        optimizer.apply(gradients, self._variables)
        return loss


def _all_or_none(gradients: list[Tensor]) -> list[Tensor]:
    """Gradients that are not finite on one replica become so on all: Keras' loss scaling asks only the first one."""
    bad = tf.reduce_any([tf.reduce_any(~tf.math.is_finite(each)) for each in gradients])
    context = tf.distribute.get_replica_context()
    count = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(bad, tf.float32))
    return [tf.where(count > 0, tf.fill(tf.shape(each), float("nan")), each) for each in gradients]
