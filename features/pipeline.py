"""Layer 2 in bulk: Beam computes the history of an archive key by key, and gets the numbers the scorer would get.

    parts of the archive ─► rows by (entity, shard of its key) ─► one kernel a table, rows in arrival order
                         ─► Parquet, a file a shard: sequence, one column a measure   (`features.pieces` joins them)

A transaction's history needs only the past of its own account, merchant and device, so the shards of one entity never
meet. The runner holds what it deals in memory, so the keys of many rows are dealt in several passes, a part in each.
What the scorer does in a single sweep (`features.sweep`) equals this to the bit, however many shards there are, in
whatever order a runner brings a shard's batches, and on every runner (`features.runner`); tests hold them together.
"""

import contextlib
import functools
import itertools
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.declaration import DECLARATION
from features.grammar import ABSENT, Declaration, Table
from features.history import Past
from features.pieces import OWNERS, tables_of, write
from features.runner import EMBEDDED, Runner, pipeline_on

PASS_ROWS: Final = 1_000_000
"""Arrivals whose keys are dealt in one pass by whoever asks `passes_for`."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """A range of arrivals of one kind, half-open, microseconds since 1970 UTC; None is unbounded."""

    kind: Literal["transactions", "labels"]
    since_us: int | None
    until_us: int | None


Read = Callable[[Part], Iterable[pa.RecordBatch]]
"""Reads a part: `sequence`, the ids and, by kind, `occurred_at`, `amount_minor` and the place, or `known_at`.

A label's `occurred_at` is that of the transaction that it speaks of. Only fraud labels may come.
It runs inside Beam's workers, so it must be a module's function or a partial of one.
"""

_NUMBERS: Final = ("sequence", "time", "occurred_at", "amount", "latitude", "longitude", "is_label")


def passes_for(arrivals: int) -> int:
    """Passes that keep the memory of a pipeline over that many arrivals bounded."""
    return max(1, -(-arrivals // PASS_ROWS))


def write_history(
    read: Read,
    parts: Iterable[Part],
    folder: Path,
    *,
    keep_us: tuple[int, int],
    declaration: Declaration = DECLARATION,
    keys: Mapping[str, pa.Array] | None = None,
    shards: int = 4,
    passes: int = 1,
    runner: Runner = EMBEDDED,
) -> None:
    """Write the history of the transactions of a time range as Parquet files into an empty folder.

    read, parts: all arrivals up to the end of the range, in any order and cut anyhow; keep_us: half-open range of
    `occurred_at` whose rows are written; keys: by entity (account, merchant, device) the ids that matter, where not
    all do; shards: parts into which a pass's keys of an entity are dealt; passes: how often all parts are read, each
    time for other keys; runner: whose workers must see the same folder. `features.pieces.read_history` reads what was
    written.
    """
    listed, wanted = list(parts), dict(keys or {})
    for turn in range(passes):
        dealing = _Dealing(declaration, wanted, shards, passes, turn)
        with quiet(), pipeline_on(runner) as pipeline:
            _ = (
                pipeline
                | "Parts" >> beam.Create(listed)
                | "Read" >> beam.FlatMap(functools.partial(_dealt, dealing, read))
                | "By key" >> beam.GroupByKey()
                | "Advance" >> beam.Map(functools.partial(_advanced, declaration, keep_us, folder))
            )


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


@dataclass(frozen=True, slots=True)
class _Dealing:
    """Which keys a pass deals, and into how many shards; see `write_history`."""

    declaration: Declaration
    keys: Mapping[str, pa.Array]
    shards: int
    passes: int
    turn: int


def _dealt(dealing: _Dealing, read: Read, part: Part) -> Iterator[tuple[tuple[str, int], pa.RecordBatch]]:
    """The rows of a part, once for each entity whose tables they enter or read; of its keys those of this pass."""
    first = dealing.turn * dealing.shards
    for batch in read(part):
        rows = _rows(batch, part.kind)
        for owner in OWNERS:
            tables = tables_of(dealing.declaration, owner)
            if part.kind == "labels" and not any(each.stream == "fraud_labels" or each.is_marked for each in tables):
                continue
            ids = rows.column(owner)
            matters = pc.is_in(ids, dealing.keys[owner]) if owner in dealing.keys else pc.not_equal(ids, "")
            chosen = rows.select([*_NUMBERS, *_entities(dealing.declaration, owner)]).filter(matters)
            shard = shard_of(chosen.column(owner), dealing.shards * dealing.passes)
            order = np.argsort(shard, kind="stable")
            bounds = np.searchsorted(shard[order], np.arange(first, first + dealing.shards + 1))
            for number, (begin, end) in enumerate(itertools.pairwise(bounds.tolist()), first):
                if begin < end:
                    yield (owner, number), chosen.take(pa.array(order[begin:end]))


def _rows(batch: pa.RecordBatch, kind: str) -> pa.RecordBatch:
    """Transactions or labels as rows of one form, so that they can be ordered together."""
    n = batch.num_rows
    is_label = kind == "labels"
    absent = pa.array(np.full(n, ABSENT, np.int64))
    columns = {
        "sequence": batch.column("sequence"),
        "time": batch.column("known_at" if is_label else "occurred_at"),
        "occurred_at": batch.column("occurred_at"),
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


def _entities(declaration: Declaration, owner: str) -> list[str]:
    """The entities whose ids the tables of an owner need: its own, those it counts, and the other half of a pair."""
    tables = tables_of(declaration, owner)
    needed = {owner, *(each.distinct for each in tables if each.distinct)}
    if any(each.entity == "account_merchant" for each in tables):
        needed.add("merchant")
    return sorted(needed)


def _advanced(
    declaration: Declaration,
    keep_us: tuple[int, int],
    folder: Path,
    shard: tuple[tuple[str, int], Iterable[pa.RecordBatch]],
) -> int:
    """Write the history of a shard's rows, ascending by sequence; returns how many."""
    (owner, number), batches = shard
    rows = pa.Table.from_batches(batches).combine_chunks()
    rows = rows.take(pa.array(np.argsort(_integers(rows, "sequence"), kind="stable")))
    slots = {entity: _slots(rows.column(entity).combine_chunks()) for entity in _entities(declaration, owner)}
    is_label = rows.column("is_label").to_numpy()
    if "merchant" in slots and owner == "account":
        _, slots["account_merchant"] = np.unique((slots["account"] << 32) | slots["merchant"], return_inverse=True)
    found = {"sequence": _integers(rows, "sequence")}
    for each in tables_of(declaration, owner):
        numbers = Past(each.name, declaration).advance(
            slots[each.entity].astype(np.int64), _integers(rows, "occurred_at" if each.is_marked else "time"),
            _integers(rows, "amount"), slots[each.distinct or owner], _integers(rows, "latitude"),
            _integers(rows, "longitude"), *_reads_writes_and_marks(each, is_label),
        )  # fmt: skip
        found |= {measure.name: numbers[:, index] for index, measure in enumerate(declaration.measures_of(each.name))}
    time = _integers(rows, "time")
    kept = np.flatnonzero(~is_label & (time >= keep_us[0]) & (time < keep_us[1]))
    write(folder, owner, number, pa.table({name: column[kept] for name, column in found.items()}))
    return len(kept)


def _reads_writes_and_marks(table: Table, is_label: npt.NDArray[np.bool_]) -> tuple[Any, Any, Any]:
    nowhere = np.zeros_like(is_label)
    if table.stream == "fraud_labels":
        return ~is_label, is_label, nowhere
    return ~is_label, ~is_label, is_label if table.is_marked else nowhere


def _slots(ids: pa.Array) -> Integers:
    """Dense numbers int64 [n] of ids, -1 for the empty id, which is no key."""
    encoded = ids.dictionary_encode()
    slot = encoded.indices.to_numpy().astype(np.int64)
    return np.where(np.asarray(pc.not_equal(ids, "")), slot, -1)


def _integers(rows: Any, column: str) -> Integers:
    return np.asarray(rows.column(column), dtype=np.int64)
