"""Fraud changes: a year of payments with a model trained once, and with models that are trained anew night after night.

    python -m benchmarks.concept --json                    # every seventh night, some fifteen minutes on two cores
    python -m benchmarks.concept --every 1 --json          # every night

Two months make the first model. Then shops begin to be compromised, which never happened before, and later takeovers of
accounts turn quiet. Every way lives through the same days:

    frozen    the first model, all year
    nightly   trained anew on the last 60 days, with the labels that a bank gets: none for what it declined
    sampled   as nightly, but a share of the declines is let through to review, and stands for the others by its weight
    told      as nightly, but somebody tells the truth about declines too: what no bank has, for comparison

Each day the highest scores are declined and the next ones reviewed; reviews are labelled the next day, the rest when a
victim reports. Labels reach the history of the same way alone. The last line is one flat JSON object.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.changing import KINDS, START_DAY, Changes, Day, changing_days
from features.declaration import DECLARATION
from features.sweep import Arrivals, History, places
from plumbline.transaction import DAY_US

WAYS: Final = ("frozen", "nightly", "sampled", "told")
FIRST_DAYS, TRAIN_DAYS, DELAY_DAYS = 60, 60, 7
DECLINE_SHARE, REVIEW_SHARE = 0.003, 0.007
LET_THROUGH: Final = 0.1
"""Share of the declines that `sampled` lets through to review."""

RECOVERED: Final = 0.9
TRAILING_DAYS: Final = 14


@dataclass(slots=True)
class Past:
    """A day as one way lived it: raw inputs of its rows, their truth as far as it is known and since when, weights."""

    day: Day
    columns: dict[str, Any]
    known_at: npt.NDArray[np.int64]
    usable: npt.NDArray[np.bool_]
    weights: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]


@dataclass(slots=True)
class Way:
    """One way to go through the year: its history, its days, its model."""

    name: str
    history: History = field(default_factory=lambda: History(DECLARATION))
    days: list[Past] = field(default_factory=list)
    labels: list[tuple[int, str, str, int]] = field(default_factory=list)
    model: Any = None
    transform: Any = None


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.concept", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--accounts", type=int, default=3000)
    parser.add_argument("--days", type=int, default=360, help="days after the first model")
    parser.add_argument("--every", type=int, default=7, help="nights from one training to the next")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options = parser.parse_args()
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")  # before TensorFlow is imported
    from plumbline.cli.quiet import import_tensorflow_quietly

    import_tensorflow_quietly()
    changes = Changes(FIRST_DAYS + options.days // 4, FIRST_DAYS + options.days * 7 // 12)
    days = list(changing_days(options.accounts, FIRST_DAYS + options.days, changes, options.seed, 0.006))
    result: dict[str, Any] = {"transactions": sum(each.rows.num_rows for each in days)}
    for name in options.ways:
        begun = time.monotonic()
        way = live(name, days, options.every, options.epochs, options.seed)
        result |= figures(way, changes) | {f"{name}_seconds": round(time.monotonic() - begun, 1)}
        print(f"{name}: {result[f'{name}_ap']:.3f}", file=sys.stderr, flush=True)
    print(json.dumps(result, indent=None if options.json else 2))
    return 0


def live(name: str, days: Sequence[Day], every: int, epochs: int, seed: int) -> Way:
    """Go through all days; the first model comes from the first 60, with the labels reported by then."""
    way, draw = Way(name), np.random.default_rng(seed)
    for day in days:
        _take(way, day, draw)
        nights = day.number + 1 - FIRST_DAYS
        if nights >= 0 and (way.model is None or (name != "frozen" and nights % every == 0)):
            _train(way, day.number + 1, epochs, seed)
            print(f"{name}: night {nights}", end="\r", file=sys.stderr, flush=True)
    return way


def _take(way: Way, day: Day, draw: np.random.Generator) -> None:
    """Score a day, act on it, and note what will become known of it, and when."""
    history = _history(way, day)
    table = pa.Table.from_batches([day.rows])
    for index, name in enumerate(DECLARATION.history_names):
        table = table.append_column(name, pa.array(history[:, index]))
    from features.analysis import raw_columns

    columns = raw_columns(table)
    n = day.rows.num_rows
    usable, weights = np.ones(n, np.bool_), np.ones(n, np.float32)
    known_at = np.where(day.fraud, day.reported_at, -1)
    scores = np.zeros(n, np.float32)
    if way.model is not None:
        scores = way.model(_examples(way, columns, np.zeros(n, np.float32)))
        order = np.argsort(-scores, kind="stable")
        declined = order[: round(n * DECLINE_SHARE)]
        reviewed = order[len(declined) : len(declined) + round(n * REVIEW_SHARE)]
        if way.name == "sampled":
            through = draw.random(len(declined)) < LET_THROUGH
            weights[declined[through]] = 1 / LET_THROUGH
            reviewed, declined = np.concatenate([reviewed, declined[through]]), declined[~through]
        tomorrow = (START_DAY + day.number + 2) * DAY_US
        found = reviewed[day.fraud[reviewed]]
        known_at[found] = tomorrow
        if way.name != "told":
            usable[declined], known_at[declined] = False, -1
    times = day.rows["account_id"].to_pylist(), day.rows["merchant_id"].to_pylist()
    told = np.flatnonzero(known_at >= 0).tolist()
    occurred_at = day.rows["occurred_at"].to_numpy()
    way.labels += [(int(known_at[at]), times[0][at], times[1][at], int(occurred_at[at])) for at in told]
    way.days.append(Past(day, columns, known_at, usable, weights, scores))
    if len(way.days) > TRAIN_DAYS + DELAY_DAYS:
        way.days[-TRAIN_DAYS - DELAY_DAYS - 1].columns = {}  # not trained on any more


def _history(way: Way, day: Day) -> npt.NDArray[np.int64]:
    """The measures of a day's rows, the labels of that day taken in between, each when it became known."""
    until = (START_DAY + day.number + 1) * DAY_US
    due = sorted(each for each in way.labels if each[0] < until)
    way.labels = [each for each in way.labels if each[0] >= until]
    paid_at = day.rows["occurred_at"].to_numpy()
    times = np.concatenate([paid_at, np.array([each[0] for each in due], np.int64)])
    order = np.argsort(times, kind="stable")
    is_label = np.arange(len(times)) >= day.rows.num_rows

    def joined(name: str, of_labels: list[str]) -> list[str]:
        both = day.rows[name].to_pylist() + of_labels
        return [both[at] for at in order.tolist()]

    def numbers(values: npt.NDArray[np.int64], absent: int) -> npt.NDArray[np.int64]:
        return np.concatenate([values, np.full(len(due), absent, np.int64)])[order]

    arrivals = Arrivals(
        account_ids=joined("account_id", [each[1] for each in due]),
        merchant_ids=joined("merchant_id", [each[2] for each in due]),
        device_ids=joined("device_id", [""] * len(due)),
        times=times[order],
        amounts=numbers(day.rows["amount_minor"].to_numpy(), 0),
        latitudes=numbers(places(day.rows["latitude_e6"].to_pylist()), int(places([None])[0])),
        longitudes=numbers(places(day.rows["longitude_e6"].to_pylist()), int(places([None])[0])),
        is_label=is_label[order],
        occurred_at=np.concatenate([paid_at, np.array([each[3] for each in due], np.int64)])[order],
    )
    return way.history.advance(arrivals)[~arrivals.is_label]


def _examples(way: Way, columns: dict[str, Any], frauds: npt.NDArray[np.float32], weights: Any = None) -> Any:
    import tensorflow as tf

    from training.dataset import Examples

    found = way.transform.features({name: tf.constant(column) for name, column in columns.items()})
    numbers = np.stack([found[each.name].numpy() for each in DECLARATION.numbers], axis=1)
    categories = np.stack([found[each.name].numpy().astype(np.int32) for each in DECLARATION.categories], axis=1)
    return Examples(numbers, categories, frauds, np.ones_like(frauds) if weights is None else weights)


def _train(way: Way, night: int, epochs: int, seed: int) -> None:
    """Train on the last days but for the delay, with what is known on the morning of day `night`."""
    import keras

    from training.fit import Recipe, fit, strategy

    now_us = (START_DAY + night) * DAY_US
    window = way.days[-TRAIN_DAYS - DELAY_DAYS : -DELAY_DAYS]
    kept = [each.usable for each in window]
    columns = {
        name: np.concatenate([each.columns[name][keep] for each, keep in zip(window, kept, strict=True)])
        for name in window[0].columns
    }
    known = np.concatenate([each.known_at[keep] for each, keep in zip(window, kept, strict=True)])
    weights = np.concatenate([each.weights[keep] for each, keep in zip(window, kept, strict=True)])
    if way.transform is None:
        way.transform = _analysed(columns)
    frauds = ((known >= 0) & (known < now_us)).astype(np.float32)
    learnable = _examples(way, columns, frauds, weights)
    network = fit(learnable, way.transform.vocabulary_sizes, Recipe(epochs=epochs, seed=seed), strategy(1)).network

    def score(rows: Any) -> npt.NDArray[np.float32]:
        logits = network.whole([rows.numbers, rows.categories], training=False)
        return np.asarray(keras.ops.sigmoid(logits)[:, 0])

    way.model = score


def _analysed(columns: dict[str, Any]) -> Any:
    """TFT's statistics of the first window; the year keeps them, as they only scale."""
    import pyarrow.parquet as pq

    from features.analysis import write_analysis
    from training.export import Transform

    history = columns["history"]
    table = {name: pa.array(history[:, index]) for index, name in enumerate(DECLARATION.history_names)}
    for name, column in columns.items():
        if name != "history":
            values = [each.decode() for each in column] if column.dtype == object else column
            table[name] = pa.array(values)
    with tempfile.TemporaryDirectory(prefix="plumbline-concept-") as folder:
        pq.write_table(pa.table(table), Path(folder) / "rows.parquet")
        write_analysis([Path(folder) / "rows.parquet"], Path(folder) / "analysis")
        return Transform(Path(folder) / "analysis")


def figures(way: Way, changes: Changes) -> dict[str, float]:
    """Average precision over the year, month by month, of each pattern after its change, and days until recovery."""
    from training.metrics import average_precision

    lived = [each for each in way.days if each.day.number >= FIRST_DAYS]

    def ap(part: Sequence[Past], only: int = 0) -> float:
        pattern = np.concatenate([each.day.pattern for each in part])
        scores = np.concatenate([each.scores for each in part])
        counted = (pattern == 0) | (pattern == only) if only else np.ones(len(pattern), np.bool_)
        frauds = pattern[counted] > 0
        return average_precision(frauds, scores[counted]) if frauds.any() else 0.0

    def caught(part: Sequence[Past]) -> float:
        """Share of the frauds' money among what is declined or reviewed."""
        stopped = lost = 0
        for each in part:
            order = np.argsort(-each.scores, kind="stable")[: round(len(each.scores) * (DECLINE_SHARE + REVIEW_SHARE))]
            amounts = each.day.rows["amount_minor"].to_numpy() * each.day.fraud
            stopped, lost = stopped + int(amounts[order].sum()), lost + int(amounts.sum())
        return stopped / max(1, lost)

    name = way.name
    found = {f"{name}_ap": ap(lived), f"{name}_caught_share": caught(lived)}
    for month, begin in enumerate(range(0, len(lived) - 29, 30), start=1):
        found[f"{name}_ap_{month}"] = ap(lived[begin : begin + 30])
    names = [each.name for each in KINDS]
    for change, day, pattern in (
        ("compromise", changes.compromise, "compromised_merchant"),
        ("takeover", changes.takeover, "quiet_takeover"),
    ):
        at = day - FIRST_DAYS
        after, number = lived[at:], names.index(pattern) + 1
        found[f"{name}_{change}_first_30_ap"] = ap(after[:30], number)
        found[f"{name}_{change}_later_ap"] = ap(after[30:90], number)
        before = ap(lived[max(0, at - 60) : at])
        ends = range(TRAILING_DAYS, len(after) + 1)
        back = next((end for end in ends if ap(after[end - TRAILING_DAYS : end]) >= RECOVERED * before), -1)
        found[f"{name}_{change}_recovered_days"] = float(back)
    return {key: round(value, 4) for key, value in found.items()}


if __name__ == "__main__":
    sys.exit(main())
