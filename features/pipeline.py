"""Layer 2 in bulk: Beam computes the history of an archive key by key, and gets the numbers the scorer would get.

    parts of the archive ─► rows by (entity, shard of its key) ─► one kernel a table, rows in arrival order
                         ─► (block of sequence numbers) ─► rows joined again ─► Parquet: sequence, one column a measure

A transaction's history needs only the past of its own account, merchant and device, so the shards of one entity never
meet. What the scorer does in a single sweep (`features.sweep`) equals this to the bit, however many shards there are;
a test holds them together. The runner is pinned: Beam would otherwise choose one by the shape of the pipeline.
"""

import contextlib
import functools
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions

from features.declaration import DECLARATION
from features.grammar import ABSENT, Declaration, Table
from features.history import Past

RUNNER: Final = "FnApiRunner"
BLOCK_ROWS: Final = 65_536

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """A range of arrivals of one kind, half-open, microseconds since 1970 UTC; None is unbounded."""

    kind: Literal["transactions", "labels"]
    since_us: int | None
    until_us: int | None


Read = Callable[[Part], Iterable[pa.RecordBatch]]
"""Reads a part: `sequence`, the ids and, by kind, `occurred_at`, `amount_minor` and the place, or `known_at`.

Only fraud labels may come. It runs inside Beam's workers, so it must be a module's function or a partial of one.
"""

_OWNER: Final = {"account_merchant": "account"}
"""A pair's history is computed where its account's is: every pair of an account lies in the account's shard."""

_OWNERS: Final = ("account", "merchant", "device")
_SPINE: Final = "account"
"""Every transaction has an account, so the account's shards say which rows there are."""

_NUMBERS: Final = ("sequence", "time", "amount", "latitude", "longitude", "is_label")


def write_history(
    read: Read,
    parts: Iterable[Part],
    folder: Path,
    *,
    keep_us: tuple[int, int],
    declaration: Declaration = DECLARATION,
    shards: int = 4,
    runner: str = RUNNER,
) -> None:
    """Write the history of the transactions of a time range as Parquet files into an empty folder.

    read, parts: all arrivals up to the end of the range, in any order and cut anyhow; keep_us: half-open range of
    `occurred_at` whose rows are written; shards: parts into which the keys of an entity are dealt.
    Columns: `sequence` and every measure of the declaration, int64.
    """
    with quiet(), beam.Pipeline(runner=runner, options=PipelineOptions([])) as pipeline:
        _ = (
            pipeline
            | "Parts" >> beam.Create(list(parts))
            | "Read" >> beam.FlatMap(functools.partial(_dealt, declaration, read, shards))
            | "By key" >> beam.GroupByKey()
            | "Advance" >> beam.FlatMap(functools.partial(_advanced, declaration, keep_us))
            | "By block" >> beam.GroupByKey()
            | "Join" >> beam.Map(functools.partial(_written, declaration, folder))
        )


def read_history(folder: Path, declaration: Declaration = DECLARATION) -> pa.Table:
    """What `write_history` wrote under this declaration, ascending by sequence."""
    schema = pa.schema([(name, pa.int64()) for name in ("sequence", *declaration.history_names)])
    files = sorted(folder.glob("block=*.parquet"), key=lambda file: int(file.stem.removeprefix("block=")))
    return pa.concat_tables([schema.empty_table(), *(pq.read_table(file, schema=schema) for file in files)])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Beam's notes on its own plumbing are kept out of the log while a pipeline is built and run."""
    logger = logging.getLogger("apache_beam")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def shard_of(ids: pa.Array, shards: int) -> Integers:
    """Shard int64 [n] of each id: CRC-32, the same in every process and on every machine (Python's hash is not)."""
    encoded = ids.dictionary_encode()
    by_code = np.array([zlib.crc32(each.encode()) % shards for each in encoded.dictionary.to_pylist()], np.int64)
    shard: Integers = by_code[encoded.indices.to_numpy()]
    return shard


def _dealt(
    declaration: Declaration, read: Read, shards: int, part: Part
) -> Iterator[tuple[tuple[str, int], pa.RecordBatch]]:
    """The rows of a part, once for each entity whose tables they enter or read."""
    for batch in read(part):
        rows = _rows(batch, part.kind)
        for owner in _OWNERS:
            tables = _tables(declaration, owner)
            if part.kind == "labels" and all(each.stream != "fraud_labels" for each in tables):
                continue
            ids = rows.column(owner)
            chosen = rows.select([*_NUMBERS, *_entities(declaration, owner)]).filter(pc.not_equal(ids, ""))
            shard = shard_of(chosen.column(owner), shards)
            order = np.argsort(shard, kind="stable")
            bounds = np.searchsorted(shard[order], np.arange(shards + 1))
            for number in range(shards):
                if bounds[number] < bounds[number + 1]:
                    yield (owner, number), chosen.take(pa.array(order[bounds[number] : bounds[number + 1]]))


def _rows(batch: pa.RecordBatch, kind: str) -> pa.RecordBatch:
    """Transactions or labels as rows of one form, so that they can be ordered together."""
    n = batch.num_rows
    is_label = kind == "labels"
    absent = pa.array(np.full(n, ABSENT, np.int64))
    columns = {
        "sequence": batch.column("sequence"),
        "time": batch.column("known_at" if is_label else "occurred_at"),
        "amount": pa.array(np.zeros(n, np.int64)) if is_label else batch.column("amount_minor"),
        "latitude": absent if is_label else _place(batch.column("latitude_e6")),
        "longitude": absent if is_label else _place(batch.column("longitude_e6")),
        "is_label": pa.array(np.full(n, is_label)),
        "account": batch.column("account_id"),
        "merchant": batch.column("merchant_id"),
        "device": pa.array([""] * n) if is_label else batch.column("device_id"),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _place(column: pa.Array) -> pa.Array:
    return column.cast(pa.int64()).fill_null(ABSENT)


def _tables(declaration: Declaration, owner: str) -> tuple[Table, ...]:
    """The tables whose history is computed in an owner's shards."""
    return tuple(each for each in declaration.tables if _OWNER.get(each.entity, each.entity) == owner)


def _entities(declaration: Declaration, owner: str) -> list[str]:
    """The entities whose ids the tables of an owner need: its own, those it counts, and the other half of a pair."""
    tables = _tables(declaration, owner)
    needed = {owner, *(each.distinct for each in tables if each.distinct)}
    if any(each.entity == "account_merchant" for each in tables):
        needed.add("merchant")
    return sorted(needed)


def _advanced(
    declaration: Declaration, keep_us: tuple[int, int], shard: tuple[tuple[str, int], Iterable[pa.RecordBatch]]
) -> Iterator[tuple[int, tuple[str, pa.RecordBatch]]]:
    """The history of a shard's rows, cut into blocks of sequence numbers."""
    (owner, _), batches = shard
    rows = pa.Table.from_batches(batches).combine_chunks()
    rows = rows.take(pa.array(np.argsort(_integers(rows, "sequence"), kind="stable")))
    slots = {entity: _slots(rows.column(entity).combine_chunks()) for entity in _entities(declaration, owner)}
    is_label = rows.column("is_label").to_numpy()
    if "merchant" in slots and owner == "account":
        _, slots["account_merchant"] = np.unique((slots["account"] << 32) | slots["merchant"], return_inverse=True)
    found = {"sequence": _integers(rows, "sequence")}
    for each in _tables(declaration, owner):
        numbers = Past(each.name, declaration).advance(
            slots[each.entity].astype(np.int64), _integers(rows, "time"), _integers(rows, "amount"),
            slots[each.distinct or owner], _integers(rows, "latitude"), _integers(rows, "longitude"),
            *_reads_and_writes(each, is_label),
        )  # fmt: skip
        found |= {measure.name: numbers[:, index] for index, measure in enumerate(declaration.measures_of(each.name))}
    time = _integers(rows, "time")
    kept = np.flatnonzero(~is_label & (time >= keep_us[0]) & (time < keep_us[1]))
    blocks = found["sequence"][kept] // BLOCK_ROWS
    for block in np.unique(blocks).tolist():
        chosen = kept[blocks == block]
        arrays = [pa.array(column[chosen]) for column in found.values()]
        yield block, (owner, pa.RecordBatch.from_arrays(arrays, names=list(found)))


def _reads_and_writes(table: Table, is_label: npt.NDArray[np.bool_]) -> tuple[Any, Any]:
    return ~is_label, is_label if table.stream == "fraud_labels" else ~is_label


def _slots(ids: pa.Array) -> Integers:
    """Dense numbers int64 [n] of ids, -1 for the empty id, which is no key."""
    encoded = ids.dictionary_encode()
    slot = encoded.indices.to_numpy().astype(np.int64)
    return np.where(np.asarray(pc.not_equal(ids, "")), slot, -1)


def _written(declaration: Declaration, folder: Path, block: tuple[int, Iterable[tuple[str, pa.RecordBatch]]]) -> int:
    """Join a block's rows by sequence, write them, and return how many there are."""
    number, pieces = block
    by_owner: dict[str, list[pa.RecordBatch]] = {owner: [] for owner in _OWNERS}
    for owner, batch in pieces:
        by_owner[owner].append(batch)
    sequence = np.sort(np.concatenate([_integers(each, "sequence") for each in by_owner[_SPINE]]))
    columns = {"sequence": sequence}
    for owner, batches in by_owner.items():
        columns |= {name: np.full(len(sequence), value) for name, value in _of_no_key(declaration, owner).items()}
        for batch in batches:
            at = np.searchsorted(sequence, _integers(batch, "sequence"))
            for name in batch.schema.names[1:]:
                columns[name][at] = _integers(batch, name)
    names = ["sequence", *declaration.history_names]
    table = pa.table([columns[name] for name in names], names=names)
    pq.write_table(table, folder / f"block={number}.parquet", compression="zstd")
    return len(sequence)


def _of_no_key(declaration: Declaration, owner: str) -> dict[str, int]:
    """The measures of a row that has no such entity, as the kernel gives them: a device may be unknown."""
    no_key, zero, yes = np.full(1, -1, np.int64), np.zeros(1, np.int64), np.ones(1, np.bool_)
    found: dict[str, int] = {}
    for each in _tables(declaration, owner):
        numbers = Past(each.name, declaration).advance(no_key, zero, zero, zero, zero, zero, reads=yes, writes=yes)
        found |= {
            measure.name: int(numbers[0, index]) for index, measure in enumerate(declaration.measures_of(each.name))
        }
    return found


def _integers(rows: Any, column: str) -> Integers:
    return np.asarray(rows.column(column), dtype=np.int64)
