"""How fast history is: the compiled kernel on one core, and the naive pandas way on the same rows.

    python -m benchmarks.history --json
    python -m benchmarks.history --archive FOLDER --json      (an imported data set instead of the simulator)

`kernel_per_second` is the kernel over all tables of the declaration, ids known as slots already; `sweep_per_second`
includes finding the slots. `pandas_ratio` is the kernel's rate over that of pandas' rolling windows for the same
measures (count, sum, maximum and distinct per key and window; the others are left out, which favours pandas), both on
the same rows. `account_bytes` is all memory of history divided by the number of accounts.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from archive.layout import Archive, open_archive
from archive.rows import transactions_of
from archive.simulation.run import Plan, simulate
from features.declaration import DECLARATION, HISTORY, TABLES
from features.grammar import Measure
from features.history import Past
from features.sweep import Arrivals, History
from plumbline.transaction import Transaction
from streaming.arrivals import arrivals

CHUNK: Final = 512
"""Rows that the kernel takes at a time: a full micro-batch of the scorer."""

ROLLED: Final = frozenset({"count", "sum", "maximum", "distinct"})
"""Kinds of measures that rolling windows have."""


def main() -> int:
    """Run it; exit code 1 below 500,000 transactions a second or 100 times pandas."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--archive", type=Path, help="archive to read; a simulated one when not given")
    parser.add_argument("--transactions", type=int, default=300_000)
    parser.add_argument("--pandas-transactions", type=int, default=20_000, help="rows for the slow way")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = open_archive(asked.archive) if asked.archive else _simulated(Path(folder), asked.transactions)
        rows = _first(source, asked.transactions)
    figures = measure(rows, asked.pandas_transactions, asked.rounds)
    if asked.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<28} {value:>14,.1f}")
    return 0 if figures["kernel_per_second"] >= 500_000 and figures["pandas_ratio"] >= 100 else 1


def measure(rows: Sequence[Transaction], pandas_rows: int, rounds: int) -> dict[str, float]:
    """All figures; rows in arrival order."""
    taken = arrivals(rows)
    History().advance(arrivals(rows[:10]))  # compiles, or loads what was compiled before
    kernel, sweep, history = [], [], History()
    for _ in range(rounds):
        begun = time.perf_counter()
        history = History()
        for begin in range(0, len(rows), CHUNK):
            history.advance(_part(taken, begin, begin + CHUNK))
        sweep.append(len(rows) / (time.perf_counter() - begun))
        kernel.append(len(rows) / kernel_seconds(taken))
    few = rows[:pandas_rows]
    begun = time.perf_counter()
    naive = by_pandas(few)
    pandas_per_second = len(few) / (time.perf_counter() - begun)
    ours = History().advance(arrivals(few))
    return {
        "kernel_per_second": round(float(np.median(kernel)), 1),
        "sweep_per_second": round(float(np.median(sweep)), 1),
        "pandas_per_second": round(pandas_per_second, 1),
        "pandas_ratio": round(float(np.median(kernel)) / pandas_per_second, 1),
        "pandas_unequal": int(sum((naive[name] != ours[:, at]).sum() for at, name in _compared())),
        "account_bytes": round(memory_bytes(history) / len(history.entities.keys["account"]), 1),
        "transactions": len(rows),
        "accounts": len(history.entities.keys["account"]),
    }


def kernel_seconds(taken: Arrivals) -> float:
    """Seconds that the kernel alone needs for all rows, in chunks, its keys being slots already."""
    history = History()
    slots = {
        "account": history.entities.keys["account"].slots(taken.account_ids),
        "merchant": history.entities.keys["merchant"].slots(taken.merchant_ids),
        "device": history.entities.keys["device"].slots(taken.device_ids),
    }
    yes = np.ones(len(taken), np.bool_)
    no = np.zeros(len(taken), np.bool_)
    slots["account_merchant"] = history.entities.pairs.slots(slots["account"], slots["merchant"], yes)
    pasts = {each.name: Past(each.name) for each in TABLES}
    begun = time.perf_counter()
    for begin in range(0, len(taken), CHUNK):
        rows = slice(begin, begin + CHUNK)
        for each in TABLES:
            pasts[each.name].advance(
                slots[each.entity][rows], taken.times[rows], taken.amounts[rows],
                slots[each.distinct or "merchant"][rows], taken.latitudes[rows], taken.longitudes[rows],
                reads=yes[rows], writes=(no if each.stream == "fraud_labels" else yes)[rows], marks=no[rows],
            )  # fmt: skip
    return time.perf_counter() - begun


def by_pandas(rows: Sequence[Transaction]) -> dict[str, Any]:
    """The windowed measures of transactions as one writes them with pandas: a rolling window a key.

    Rolling windows see equal times of one key as later rows do; rows of one key with equal times may differ from ours.
    """
    frame = pd.DataFrame(
        {
            "account": [each.account_id for each in rows],
            "merchant": [each.merchant_id for each in rows],
            "device": [each.device_id for each in rows],
            "amount": [float(each.amount_minor) for each in rows],
        },
        index=pd.to_datetime([each.occurred_at for each in rows], unit="us"),
    )
    frame["row"] = np.arange(len(frame))
    found = {}
    for _, name in _compared():
        measure = next(each for each in HISTORY if each.name == name)
        found[name] = _rolled(frame, measure)
    return found


def _rolled(frame: pd.DataFrame, measure: Measure) -> Any:
    of = DECLARATION.table(measure.table)
    column = "amount"
    if measure.kind == "distinct":
        column = "code"
        frame = frame.assign(code=frame[of.distinct].astype("category").cat.codes.astype(float))
    values = frame[frame[of.entity] != ""]
    window = f"{measure.window_us // 1_000_000}s"
    result = np.zeros(len(frame), np.int64)
    for _, group in values.groupby(of.entity, sort=False):
        # What came before a row: the window with the row itself, and then without it.
        rolling = group[column].rolling(window, closed="right")
        if measure.kind == "count":
            past = rolling.count() - 1
        elif measure.kind == "sum":
            past = rolling.sum() - group[column]
        elif measure.kind == "maximum":
            past = rolling.apply(lambda seen: seen[:-1].max() if len(seen) > 1 else 0, raw=True)
        else:
            past = rolling.apply(lambda seen: len(np.unique(seen[:-1])), raw=True)
        result[group["row"].to_numpy()] = np.rint(past.to_numpy()).astype(np.int64)
    return result


def _compared() -> list[tuple[int, str]]:
    """Measures that both ways have: place in the declaration, and name."""
    return [
        (at, each.name)
        for at, each in enumerate(HISTORY)
        if each.kind in ROLLED and DECLARATION.table(each.table).stream == "transactions"
    ]


def memory_bytes(history: History) -> int:
    """Bytes of all state of history but the ids' own text."""
    return sum(past.memory_bytes for past in history.tables.values()) + history.entities.pairs.memory_bytes


def _part(taken: Arrivals, begin: int, end: int) -> Arrivals:
    return Arrivals(
        taken.account_ids[begin:end], taken.merchant_ids[begin:end], taken.device_ids[begin:end],
        taken.times[begin:end], taken.amounts[begin:end], taken.latitudes[begin:end], taken.longitudes[begin:end],
        taken.is_label[begin:end], taken.occurred_at[begin:end],
    )  # fmt: skip


def _simulated(folder: Path, transactions: int) -> Archive:
    accounts, per_day = 2000, 1.5
    days = max(2, round(transactions * 1.2 / (accounts * per_day)))
    return simulate(Plan(accounts=accounts, days=days, transactions_per_account_day=per_day), folder / "archive")


def _first(source: Archive, count: int) -> list[Transaction]:
    rows: list[Transaction] = []
    for batch in source.transactions():
        rows.extend(transactions_of(batch))
        if len(rows) >= count:
            break
    return rows[:count]


if __name__ == "__main__":
    sys.exit(main())
