"""What others do to a number on one side alone: each kind of skew that `benchmarks.skew` puts a price on.

Nothing here is of the product. The windows are counted once more in the plainest way, entry by entry, so that their
edges can be put wherever a kind of skew puts them; with the right edges they must equal the kernel's integers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from archive.layout import Archive
from features.analysis import Columns
from features.declaration import DECLARATION
from features.grammar import ABSENT, RUNS, WINDOWED, Measure, Table
from features.history import Flags, Integers
from features.kernel import UNUSUAL_TIMES
from features.preprocessing import DEVIATION_LEAST, Z_LIMIT
from features.sweep import Arrivals, History
from features.transforms import MONDAY_US, YEAR_SECONDS, Z_PRIOR_COUNT, Z_PRIOR_SHARE
from plumbline.transaction import DAY_US, SECOND_US

Float64 = npt.NDArray[np.float64]
Edges = Callable[[Measure, Integers], tuple[Integers, Integers]]
"""(measure, times of n rows, microseconds) -> the window of each row: its first moment less one, and its last."""

HOUR_US: Final = 3600 * SECOND_US
MINOR_A_MAJOR: Final = 100


@dataclass(frozen=True, slots=True)
class Stream:
    """n transactions and first fraud labels in arrival order, as columns; ids are numbers from 0."""

    sequence: Integers
    entities: Mapping[str, Integers]
    time: Integers
    amount: Integers
    is_label: Flags
    occurred_at: Integers

    def at(self, sequence: Integers) -> Integers:
        """Places of transactions in the stream, by their sequence numbers."""
        transactions = np.flatnonzero(~self.is_label)
        order = transactions[np.argsort(self.sequence[transactions])]
        return order[np.searchsorted(self.sequence[order], sequence)]

    def with_labels_leaked(self) -> "Stream":
        """The stream in which every fraud label is known at the moment of its transaction: the future, leaked."""
        labels = np.flatnonzero(self.is_label)
        of = self.at(self.sequence[labels])
        time = self.time.copy()
        time[labels] = self.time[of]
        place = np.arange(len(time))
        place[labels] = of
        order = np.lexsort((self.is_label, place))
        entities = {name: numbers[order] for name, numbers in self.entities.items()}
        return replace(
            self, sequence=self.sequence[order], entities=entities, time=time[order], amount=self.amount[order],
            is_label=self.is_label[order], occurred_at=self.occurred_at[order],
        )  # fmt: skip


def stream_of(archive: Archive, until_us: int) -> Stream:
    """An archive's transactions before a moment and all their labels; a label carries its transaction's sequence."""
    names = ["sequence", "transaction_id", "account_id", "merchant_id", "occurred_at", "amount_minor"]
    rows = pa.Table.from_batches(archive.transactions(None, until_us, names))
    labels = archive.labels(None, None, ["sequence", "transaction_id", "known_at", "verdict"])
    of_these = pc.is_in(labels["transaction_id"], rows["transaction_id"])
    labels = labels.filter(pc.and_(pc.equal(labels["verdict"], "fraud"), of_these))
    of = np.asarray(pc.index_in(labels["transaction_id"], rows["transaction_id"]))
    _, first = np.unique(of, return_index=True)
    of, arrival = of[first], np.asarray(labels["sequence"])[first]
    order = np.argsort(np.concatenate([np.asarray(rows["sequence"]), arrival]), kind="stable")
    took = np.concatenate([np.arange(rows.num_rows), of])[order]
    is_label = order >= rows.num_rows
    codes = {name: _codes(rows[f"{name}_id"])[took] for name in ("account", "merchant")}
    codes["account_merchant"] = codes["account"] * (int(codes["merchant"].max()) + 1) + codes["merchant"]
    known_at = np.asarray(labels["known_at"])[first]
    return Stream(
        sequence=np.asarray(rows["sequence"])[took],
        entities=codes | {"device": np.full(len(took), -1)},
        time=np.concatenate([np.asarray(rows["occurred_at"]), known_at])[order],
        amount=np.where(is_label, 0, np.asarray(rows["amount_minor"])[took]),
        is_label=is_label,
        occurred_at=np.asarray(rows["occurred_at"])[took],
    )


def swept(stream: Stream, rows: Integers) -> Integers:
    """The kernel's history of some rows, int64 [n, measures]: one sweep over the whole stream, as the scorer's."""
    absent = np.full(len(stream.time), ABSENT)
    ids = {name: [str(each) for each in stream.entities[name].tolist()] for name in ("account", "merchant")}
    nowhere = [""] * len(stream.time)
    arrivals = Arrivals(
        ids["account"], ids["merchant"], nowhere, stream.time, stream.amount, absent, absent, stream.is_label,
        stream.occurred_at,
    )  # fmt: skip
    return History().advance(arrivals)[rows]


def history_with(stream: Stream, rows: Integers, right: Integers, edges: Edges) -> Integers:
    """History int64 [n, measures] with the windows of `edges`; measures without a window are those of `right`."""
    history = right.copy()
    for column, measure in enumerate(DECLARATION.history):
        if measure.kind in WINDOWED - RUNS and DECLARATION.table(measure.table).entity != "device":
            history[:, column] = measured(stream, measure, rows, *edges(measure, stream.time[rows]))
    return history


def measured(stream: Stream, measure: Measure, rows: Integers, after: Integers, until: Integers) -> Integers:
    """One windowed measure of some rows, entry by entry: entries that arrived before, with time in (after, until]."""
    of = DECLARATION.table(measure.table)
    key = stream.entities[of.entity]
    order = np.argsort(key, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    is_entry = stream.is_label if of.stream == "fraud_labels" else ~stream.is_label
    other = stream.entities[of.distinct or "merchant"]
    amount = np.minimum(stream.amount, of.square_most) ** 2 if measure.kind == "squares" else stream.amount
    if measure.kind == "unusual":
        is_entry = is_entry & _unusual(stream, of)
    kind = {"count": 0, "unusual": 0, "sum": 1, "squares": 1, "maximum": 2, "distinct": 3, "seconds_since_first": 4}
    found: Integers = _in_windows(
        key[order], stream.time[order], amount[order], other[order], is_entry[order], place[rows], after, until,
        kind[measure.kind],
    )  # fmt: skip
    return found


def _unusual(stream: Stream, of: Table) -> Flags:
    """Which entries of a table were unusual when they came, bool [n]: their own windows are always exact."""
    everything = np.arange(len(stream.time))
    before = stream.time - of.usual_us, stream.time
    count, total = (
        measured(stream, Measure(of.name, kind, str(of.usual)), everything, *before) for kind in ("count", "sum")
    )
    return np.asarray((count > 0) & (stream.amount * count > UNUSUAL_TIMES * total))


@njit(cache=True)
def _in_windows(
    key: Any, time: Any, amount: Any, other: Any, is_entry: Any, rows: Any, after: Any, until: Any, kind: int
) -> Any:
    out = np.zeros(len(rows), np.int64)
    for n in range(len(rows)):
        at = rows[n] - 1
        if kind == 4:
            out[n] = -1
        seen = {np.int64(-1)}
        while at >= 0 and key[at] == key[rows[n]] and time[at] > after[n]:
            if is_entry[at] and time[at] <= until[n]:
                if kind == 0:
                    out[n] += 1
                elif kind == 1:
                    out[n] += amount[at]
                elif kind == 2:
                    out[n] = max(out[n], amount[at])
                elif kind == 4:
                    out[n] = (time[rows[n]] - time[at]) // SECOND_US
                elif other[at] not in seen:
                    seen.add(other[at])
                    out[n] += 1
            at -= 1
    return out


def exact(measure: Measure, time: Integers) -> tuple[Integers, Integers]:
    """The declared window: (t - window, t]."""
    return time - measure.window_us, time


def sawtooth(measure: Measure, time: Integers) -> tuple[Integers, Integers]:
    """The window's head is exact, its tail lies on the hop before: its length swings by up to one hop."""
    hop = hop_us(measure.window_us)
    return (time - measure.window_us) // hop * hop - 1, time


def hopping(measure: Measure, time: Integers) -> tuple[Integers, Integers]:
    """The newest whole window of a stream processor: nothing since the last hop is in it yet."""
    hop = hop_us(measure.window_us)
    return time // hop * hop - 1 - measure.window_us, time // hop * hop - 1


def day_old(measure: Measure, time: Integers) -> tuple[Integers, Integers]:
    """The aggregate of last night's batch: as of midnight UTC."""
    return time // DAY_US * DAY_US - 1 - measure.window_us, time // DAY_US * DAY_US - 1


def hop_us(window_us: int) -> int:
    """Five minutes for windows under 12 hours, an hour under 12 days, else a day, as feature platforms choose them."""
    if window_us < 12 * HOUR_US:
        return HOUR_US // 12
    return HOUR_US if window_us < 12 * DAY_US else DAY_US


def in_major_units(columns: Columns) -> Columns:
    """The amount of the transaction itself in euros where the graph expects cents; history stays in cents."""
    return columns | {"amount_minor": columns["amount_minor"] // MINOR_A_MAJOR}


@dataclass(frozen=True, slots=True)
class ByHand:
    """Layer 3 written a second time, in numpy and float64, with constants of its own: float64 [numbers] each."""

    mean: Float64
    deviation: Float64

    @classmethod
    def learnt(cls, columns: Columns) -> "ByHand":
        """Means and deviations of training rows, as numpy gives them."""
        plain = _plain(columns)
        return cls(plain.mean(axis=0), plain.std(axis=0))

    def rounded(self, decimals: int) -> "ByHand":
        """The same constants as somebody copied them from a printed table."""
        return ByHand(self.mean.round(decimals), self.deviation.round(decimals))

    def numbers(self, columns: Columns) -> npt.NDArray[np.float32]:
        """z-scores of n rows within ±8, float32 [n, numbers]; 0 where a column did not vary."""
        varies = self.deviation > DEVIATION_LEAST
        scaled = (_plain(columns) - self.mean) / np.where(varies, self.deviation, 1.0) * varies
        return np.clip(scaled, -Z_LIMIT, Z_LIMIT).astype(np.float32)


def _plain(columns: Columns) -> Float64:
    named = {name: columns["history"][:, column] for column, name in enumerate(DECLARATION.history_names)} | columns
    return np.stack(
        [
            _FORMULAS[each.transform](*(named[name] for name in each.inputs)).astype(np.float64)
            for each in DECLARATION.numbers
        ],
        axis=1,
    )


def _z_score(number: Integers, total: Integers, squares: Integers, count: Integers) -> Any:
    mean = total / count
    spread = np.maximum(squares / count - mean**2, 0)
    variance = (count * spread + Z_PRIOR_COUNT * (Z_PRIOR_SHARE * mean) ** 2) / (count + Z_PRIOR_COUNT)
    return (number - mean) / np.sqrt(np.maximum(variance, 1))


def _weekday(time: Integers) -> Any:
    return ((time + MONDAY_US) // DAY_US % 7) * (2 * np.pi / 7)


def _hour(time: Integers) -> Any:
    return time % DAY_US * (2 * np.pi / DAY_US)


_FORMULAS: Final[Mapping[str, Callable[..., Any]]] = {
    "log": lambda number: np.log1p(np.where(number < 0, YEAR_SECONDS, number)),
    "log_ratio": lambda number, to: np.where(to > 0, np.log1p(number) - np.log1p(to), 0),
    "log_ratio_to_mean": lambda number, total, count: np.where(
        count > 0, np.log1p(number * count) - np.log1p(total), 0
    ),
    "share": lambda part, whole: part / np.maximum(whole, 1) * (whole > 0),
    "share_of_difference": lambda part, longer, shorter: (
        part / np.maximum(longer - shorter, 1) * (longer - shorter > 0)
    ),
    "z_score": lambda number, total, squares, count: (
        _z_score(number, total, squares, np.maximum(count, 1)) * (count > 0)
    ),
    "known": lambda number: number >= 0,
    "hour_sine": lambda time: np.sin(_hour(time)),
    "hour_cosine": lambda time: np.cos(_hour(time)),
    "weekday_sine": lambda time: np.sin(_weekday(time)),
    "weekday_cosine": lambda time: np.cos(_weekday(time)),
    "night": lambda time: time % DAY_US < 6 * HOUR_US,
    "weekend": lambda time: (time + MONDAY_US) % (7 * DAY_US) >= 5 * DAY_US,
    # The data has no places, so that these two never vary.
    "distance_km": lambda north, east, last_north, last_east: np.zeros(len(north)),
    "speed_kmh": lambda north, east, last_north, last_east, seconds: np.zeros(len(north)),
}


def _codes(ids: pa.ChunkedArray) -> Integers:
    return np.asarray(ids.combine_chunks().dictionary_encode().indices).astype(np.int64)
