"""tf.data from shards: parallel, interleaved reads, rows mixed chunk by chunk, batches cut before columns are.

    shards in the epoch's order ─ interleaved reads ─► bytes ─ 16 at a time ─► records [65536, W] ─ mixed ─►
    records [batch, W] ─ cut into columns ─► numbers, categories, frauds, weights ─ prefetched

No row is handled by itself: what costs time is the copy of its bytes. A feed can begin at any batch of an epoch, and
then reads no more of what came before than the chunk it begins in.
"""

from typing import Any, Final

import numpy as np
import tensorflow as tf

from training.order import CHUNK_PIECES, Pieces, in_order, place_of, shuffled
from training.shards import Shards

Tensor = Any
READERS: Final = 8


def training_batches(shards: Shards, rows: slice, batch_rows: int, seed: int, epoch: int, skipped: int = 0) -> Any:
    """A tf.data.Dataset of the batches of an epoch (from 0), without the first `skipped` of them.

    Each is numbers float32 [batch, K], categories int32 [batch, C], frauds and weights float32 [batch]. Rows that do
    not fill a batch are left out; which ones differs from epoch to epoch.
    """
    pieces = shuffled(shards.shard_rows, rows, seed, epoch)
    chunk, ahead = place_of(pieces, skipped * batch_rows)
    random = np.random.Generator(np.random.PCG64([seed, epoch, 1]))
    low, high = random.integers(2**31, size=2).tolist()

    def mixed(number: Tensor, raw: Tensor) -> Tensor:
        records = _records(raw, shards.width)
        key = tf.random.stateless_uniform([tf.shape(records)[0]], [low + number, high], None, None, tf.int32)
        order = tf.argsort(key, stable=True)
        return tf.gather(records, tf.cond(number == chunk, lambda: order[ahead:], lambda: order))

    raw = _read(shards, pieces.take(slice(chunk * CHUNK_PIECES, None))).batch(CHUNK_PIECES)
    chunks = raw.enumerate(chunk).map(mixed, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return _columns(chunks.rebatch(batch_rows, drop_remainder=True), shards, batch_rows)


def checking_batches(shards: Shards, rows: slice, batch_rows: int) -> Any:
    """A tf.data.Dataset of rows in order; the last batch is filled up with rows of zeros, whose weight is 0 too."""
    raw = _read(shards, in_order(shards.shard_rows, rows)).batch(CHUNK_PIECES)
    batches = raw.map(lambda each: _records(each, shards.width), num_parallel_calls=2, deterministic=True)

    def filled(records: Tensor) -> Tensor:
        return tf.pad(records, [[0, batch_rows - tf.shape(records)[0]], [0, 0]])

    return _columns(batches.rebatch(batch_rows).map(filled), shards, batch_rows)


def _read(shards: Shards, pieces: Pieces) -> Any:
    """The bytes of each piece, in order."""
    names, sizes = tf.constant(shards.paths), tf.constant(shards.shard_rows, tf.int64)
    row_bytes = shards.width * 4

    def opened(shard: Tensor, start: Tensor, rows: Tensor) -> Any:
        length = rows * row_bytes
        after = (sizes[shard] - start - rows) * row_bytes
        return tf.data.FixedLengthRecordDataset(names[shard], length, start * row_bytes, after, length)

    places = tf.data.Dataset.from_tensor_slices((pieces.shard, pieces.start, pieces.rows))
    return places.interleave(opened, READERS, 1, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _records(raw: Tensor, width: int) -> Tensor:
    """int32 [rows, W] from the bytes of some pieces."""
    return tf.reshape(tf.io.decode_raw(tf.strings.reduce_join(raw), tf.int32), [-1, width])


def _columns(records: Any, shards: Shards, batch_rows: int) -> Any:
    numbers = shards.manifest.numbers

    def cut(batch: Tensor) -> tuple[Tensor, ...]:
        batch = tf.ensure_shape(batch, [batch_rows, shards.width])
        truth = tf.bitcast(batch[:, -2:], tf.float32)
        return tf.bitcast(batch[:, :numbers], tf.float32), batch[:, numbers:-2], truth[:, 0], truth[:, 1]

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    options.deterministic = True
    cut_up = records.map(cut, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return cut_up.prefetch(tf.data.AUTOTUNE).with_options(options)
