"""The rows that say when a network was best: scored by the float32 network, so by the numbers that would serve."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from training.feed import checking_batches
from training.metrics import average_precision
from training.model import Network
from training.shards import Shards

Tensor = Any
BATCH_ROWS: Final = 8192


class HeldOut:
    """A range of rows, and the network that is judged by them; false when there are none."""

    def __init__(self, shards: Shards, rows: slice, network: Network) -> None:
        self._shards, self._rows, self._network = shards, rows, network
        self.forward = tf.function(self._forward, jit_compile=False)

    def __bool__(self) -> bool:
        return bool(self._rows.stop > self._rows.start)

    def judge(self) -> tuple[float, float]:
        """Mean log-loss by weight, and average precision, of the network as it is."""
        logits, frauds, weights = self.logits()
        z = logits.astype(np.float64)
        loss = np.sum((np.logaddexp(0, z) - z * frauds) * weights, dtype=np.float64)
        precise = (
            average_precision(frauds > 0, z, weights.astype(np.float64))
            if 0 < np.count_nonzero(frauds) < len(frauds)
            else np.nan
        )
        return float(loss / np.sum(weights, dtype=np.float64)), float(precise)

    def logits(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Logits, frauds and weights of the rows in time order, float32 [n] each."""
        found = [
            (self.forward(numbers, categories)[:, 0].numpy(), frauds.numpy(), weights.numpy())
            for numbers, categories, frauds, weights in checking_batches(self._shards, self._rows, BATCH_ROWS)
        ]
        rows = self._rows.stop - self._rows.start
        logits, frauds, weights = (np.concatenate(each)[:rows] for each in zip(*found, strict=True))
        return logits, frauds, weights

    def _forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        return self._network.whole([numbers, categories], training=False)
