"""Which transactions have a truth, and which: labels as known at a moment, and silence that has lasted long enough.

A labelled transaction is what its labels say (`retrain.judged`). One that nobody has spoken of counts as genuine once
it is `maturity_days` old, since those who were robbed have complained by then; a younger one has no truth and is left
out. A declined payment never took place, so nobody could complain: it has a truth only where somebody labelled it.

Where a policy lets a small random sample of what it would decline through to review, the sample stands for all of them
in a test, each with the inverse of its probability as its weight. So a test leaves the declined ones out, also those
that somebody labelled, as nobody knows why these and not others. In training every row weighs one and a labelled
decline counts: who was declined depends only on what the model sees, and that does not bend a likelihood.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from plumbline.transaction import DAY_US
from retrain.judged import Judged
from retrain.sources import Sources

Use = Literal["train", "test"]

TRUTH: Final = pa.schema(
    [("sequence", pa.int64()), ("transaction_id", pa.string()), ("occurred_at", pa.int64()), ("fraud", pa.bool_()),
     ("why", pa.string()), ("known_at", pa.int64()), ("weight", pa.float64())]
)  # fmt: skip
"""why: chargeback, analyst, archive or maturity; known_at: when it was; weight: 1, or the inverse of a probability."""

_SEEN: Final = ("sequence", "transaction_id", "occurred_at")


@dataclass(frozen=True, slots=True)
class Day:
    """A day's truths, ascending by sequence, and how many of its transactions have none, and why."""

    truths: pa.Table
    young: int
    declined: int

    @property
    def labelled(self) -> int:
        """How many truths somebody has told."""
        return int(self.truths.num_rows) - int(pc.sum(pc.equal(self.truths["why"], "maturity")).as_py() or 0)

    @property
    def frauds(self) -> int:
        """How many truths say fraud."""
        return int(pc.sum(self.truths["fraud"]).as_py() or 0)


def truths_of(sources: Sources, judged: Judged, day: int, known_before_us: int, maturity_days: int, use: Use) -> Day:
    """The truths of a UTC day's transactions as known at a moment; day: its number since 1970."""
    rows = _seen(sources, day)
    at = pc.index_in(rows["transaction_id"], value_set=judged.transaction_ids)
    labelled = np.asarray(pc.is_valid(at))
    place = np.asarray(pc.fill_null(at, 0), dtype=np.int64)
    occurred = np.asarray(rows["occurred_at"], dtype=np.int64)
    mature = occurred + maturity_days * DAY_US <= known_before_us
    declined = np.asarray(pc.equal(rows["outcome"], "decline"))
    kept = (labelled | mature) & ~declined if use == "test" else labelled | (mature & ~declined)
    weights = np.asarray(rows["weight"], dtype=np.float64) if use == "test" else np.ones(len(occurred))
    told = kept & labelled
    fraud = np.zeros(len(occurred), np.bool_)
    known = occurred + maturity_days * DAY_US
    if len(judged):
        fraud[told] = judged.frauds[place[told]]
        known[told] = judged.known_at[place[told]]
    why = pc.if_else(pa.array(labelled), judged.sources.take(at), "maturity")
    truths = pa.table([*(rows[name] for name in _SEEN), fraud, _flat(why), known, weights], schema=TRUTH).filter(
        pa.array(kept)
    )
    return Day(truths, int((~kept & ~declined).sum()), int((~kept & declined).sum()))


def _seen(sources: Sources, day: int) -> pa.Table:
    """A day's transactions by sequence: the archive's were all taken for approved."""
    since, until = day * DAY_US, (day + 1) * DAY_US
    parts = [_ROWS.empty_table()]
    for batch in sources.archived(since, until, _SEEN):
        n = batch.num_rows
        parts.append(pa.table([*batch.columns, pa.repeat("approve", n), np.ones(n)], schema=_ROWS))
    parts += [each.cast(_ROWS) for each in sources.journaled(since, min(until, sources.cut_off_us), _ROWS.names)]
    return pa.concat_tables(parts).combine_chunks()


def every_id(sources: Sources) -> Iterator[Any]:
    """The ids of all transactions that a night sees, some at a time."""
    for batch in sources.archived(0, sources.cut_off_us, ("transaction_id",)):
        yield batch.column("transaction_id")
    for table in sources.journaled(0, sources.cut_off_us, ("transaction_id",)):
        yield table["transaction_id"]


_ROWS: Final = pa.schema([*(TRUTH.field(name) for name in _SEEN), ("outcome", pa.string()), ("weight", pa.float64())])


def _flat(column: Any) -> npt.NDArray[Any] | pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
