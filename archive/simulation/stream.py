"""A simulated bank's messages in their order of arrival, from any time on and without an end."""

import datetime
import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from archive.manifest import ARRIVAL, LABEL_SCHEMA
from archive.simulation.episodes import REPORT_MAX_DAYS
from archive.simulation.run import EPOCH, Days, Plan
from plumbline.transaction import DAY_US

REPORTED_WITHIN_DAYS = int(REPORT_MAX_DAYS) + 15
"""Days from a fraud to its report, at most: the report follows the last payment of the case."""


class EndlessArrivals:
    """Reads like an archive that has no end; `sequence` is the time of arrival, in microseconds since 1970 UTC."""

    def __init__(self, plan: Plan) -> None:
        self._days = Days(plan)
        self._start_us = (plan.start - EPOCH) // datetime.timedelta(microseconds=1)

    def arrivals(
        self, since_us: int | None = None, until_us: int | None = None
    ) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Transactions and labels as `Archive.arrivals` gives them, a day of them made at a time.

        since_us, until_us: half-open range of the time of arrival; until None, it never ends.
        """
        since_us = self._start_us if since_us is None else max(since_us, self._start_us)
        first = (since_us - self._start_us) // DAY_US
        reported = LABEL_SCHEMA.empty_table()
        for number in itertools.count(max(0, first - REPORTED_WITHIN_DAYS)):
            rows, labels = self._days.day(number)
            reported = pa.concat_tables([reported, labels])
            begins_us = self._start_us + number * DAY_US
            if until_us is not None and begins_us >= until_us:
                return
            if number < first:
                continue
            low, high = max(since_us, begins_us), min(begins_us + DAY_US, until_us or begins_us + DAY_US)
            known = reported.filter(_between(reported, "known_at", low, high)).sort_by("known_at")
            reported = reported.filter(pc.greater_equal(reported["known_at"], high))
            yield from _merged(rows.filter(_between(rows, "occurred_at", low, high)), known)


def _between(table: pa.Table | pa.RecordBatch, column: str, low: int, high: int) -> pa.Array:
    times = table.column(column)
    return pc.and_(pc.greater_equal(times, low), pc.less(times, high))


def _merged(rows: pa.RecordBatch, labels: pa.Table) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Runs of one kind, by time of arrival; a label comes after the transactions of the same moment."""
    transactions = _with_sequence(rows, "transactions")
    reports = _with_sequence(labels.combine_chunks().to_batches()[0], "labels") if labels.num_rows else None
    if reports is None:
        if transactions.num_rows:
            yield "transactions", transactions
        return
    places = np.searchsorted(
        transactions.column("sequence").to_numpy(), reports.column("sequence").to_numpy(), side="right"
    )
    done = begun = 0
    for place, group in itertools.groupby(places.tolist()):
        if place > done:
            yield "transactions", transactions.slice(done, place - done)
            done = place
        count = len(list(group))
        yield "labels", reports.slice(begun, count)
        begun += count
    if done < transactions.num_rows:
        yield "transactions", transactions.slice(done)


def _with_sequence(batch: pa.RecordBatch, part: str) -> pa.RecordBatch:
    return batch.append_column("sequence", batch.column(ARRIVAL[part]))
