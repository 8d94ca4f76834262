"""Every feature, declared once: what is remembered of the past, what becomes of it, and the words for it.

Layer 2 (history) follows `TABLES` and `HISTORY`: integers only. Layer 3 (preprocessing) follows `FEATURES`: every
float. The kernel's plan, the model's inputs, the reasons an analyst reads and the docs all derive from here; adding a
window or a measure is one line in `HISTORY`, nothing else.

What a measure means, exactly: a transaction with event time t sees the entries of its table's key that came before it
in arrival order and whose time lies in (t - window, t]. Of each key the newest `bound` entries by time are remembered,
and none that is older than the key's newest time by `horizon_us` or more; what is forgotten no longer counts.
"""

import functools
import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from features.words import measure_words, window_words
from plumbline.errors import InvalidDeclaration
from plumbline.transaction import DAY_US, SECOND_US

SEMANTICS: Final = 1
"""Raised whenever the same declaration comes to mean other numbers, so that fingerprints differ."""

ABSENT: Final = -(2**31)
"""A place that is not known, in `latitude_e6`, `longitude_e6` and the measures of the last place."""

LATENESS_US: Final = 7 * DAY_US
"""How late a transaction may come and still see its windows whole."""

Entity = Literal["account", "merchant", "device", "account_merchant"]
Kind = Literal[
    "count", "sum", "maximum", "distinct", "ever", "seconds_since", "latitude_e6", "longitude_e6", "seconds_since_place"
]
WINDOWED: Final = frozenset({"count", "sum", "maximum", "distinct"})

UNITS_SECONDS: Final = {"m": 60, "h": 3600, "d": 86_400}


def seconds(window: str) -> int:
    """Length of a window in seconds.

    >>> seconds("10m"), seconds("7d")
    (600, 604800)
    """
    number, unit = window[:-1], window[-1:]
    if not number.isdigit() or unit not in UNITS_SECONDS or int(number) == 0:
        raise InvalidDeclaration("window", "length", window, "a number followed by m, h or d, such as 10m")
    return int(number) * UNITS_SECONDS[unit]


@dataclass(frozen=True, slots=True)
class Table:
    """One kind of past: whose (entity), of what (stream), how much is remembered of each key (bound, a power of two).

    `distinct` names the other entity that is kept with each entry, so that distinct ones can be counted.
    """

    name: str
    entity: Entity
    stream: Literal["transactions", "fraud_labels"]
    bound: int
    distinct: Literal["account", "merchant"] | None = None

    def __post_init__(self) -> None:
        if self.bound and (self.bound < 4 or self.bound & (self.bound - 1)):
            raise InvalidDeclaration(f"table {self.name}", "bound", self.bound, "0 or a power of two, 4 or more")


TABLES: Final = (
    Table("account", "account", "transactions", bound=512, distinct="merchant"),
    Table("account_merchant", "account_merchant", "transactions", bound=0),
    Table("merchant", "merchant", "transactions", bound=4096),
    Table("device", "device", "transactions", bound=256, distinct="account"),
    Table("account_fraud", "account", "fraud_labels", bound=64),
    Table("merchant_fraud", "merchant", "fraud_labels", bound=1024),
)


@dataclass(frozen=True, slots=True)
class Measure:
    """One integer of the past of a table's key; `window` is empty where a measure has none."""

    table: str
    kind: Kind
    window: str = ""

    def __post_init__(self) -> None:
        if (self.kind in WINDOWED) != bool(self.window):
            allowed = "a window" if self.kind in WINDOWED else "no window"
            raise InvalidDeclaration(f"measure {self.table}_{self.kind}", "window", self.window, allowed)

    @property
    def name(self) -> str:
        """Its name, computed and never typed: `account_count_10m`."""
        return "_".join(part for part in (self.table, self.kind, self.window) if part)

    @property
    def window_us(self) -> int:
        """Its window in microseconds; 0 where it has none."""
        return seconds(self.window) * SECOND_US if self.window else 0

    @property
    def text_en(self) -> str:
        """What it counts, in English."""
        return measure_words(self.table, self.kind, self.window, "en")

    @property
    def text_zh(self) -> str:
        """What it counts, in Chinese."""
        return measure_words(self.table, self.kind, self.window, "zh")


def measures(table: str, kinds: str, windows: str = "") -> Iterator[Measure]:
    """The measures of a table for every kind and window given, as words parted by spaces."""
    for kind, window in itertools.product(kinds.split(), windows.split() or [""]):
        yield Measure(table, kind, window)  # type: ignore[arg-type]  # __post_init__ and _check refuse wrong ones


HISTORY: Final[tuple[Measure, ...]] = (
    *measures("account", "count sum maximum", "10m 1h 1d 7d 30d"),
    *measures("account", "distinct", "1d"),
    *measures("account", "seconds_since latitude_e6 longitude_e6 seconds_since_place"),
    *measures("account_merchant", "ever"),
    *measures("merchant", "count sum", "1h 1d 7d 30d"),
    *measures("device", "distinct", "1d 7d"),
    *measures("account_fraud", "count", "30d"),
    *measures("merchant_fraud", "count", "1d 7d 30d"),
)

HISTORY_NAMES: Final = tuple(measure.name for measure in HISTORY)
PLACE_MEASURES: Final = frozenset({"latitude_e6", "longitude_e6"})

Transform = Literal[
    "log", "log_ratio", "log_ratio_to_mean", "share", "known", "hour_sine", "hour_cosine", "weekday_sine",
    "weekday_cosine", "night", "weekend", "distance_km", "speed_kmh", "vocabulary",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Feature:
    """One number the model sees: a transform of raw columns and measures, with the words an analyst reads.

    `vocabulary_max` is set for categories: how many of the most frequent values are told apart; index 0 stands for
    all others.
    """

    name: str
    transform: Transform
    inputs: tuple[str, ...]
    reason_en: str
    reason_zh: str
    vocabulary_max: int = 0

    @property
    def is_category(self) -> bool:
        """Whether it is an index into a vocabulary rather than a scaled number."""
        return self.vocabulary_max > 0


def _of_measures() -> Iterator[Feature]:
    """Each measure but the last place becomes a feature by itself: its logarithm, scaled."""
    for measure in HISTORY:
        if measure.kind not in PLACE_MEASURES:
            yield Feature(f"{measure.name}_log", "log", (measure.name,), measure.text_en, measure.text_zh)


def _of_habits() -> Iterator[Feature]:
    """The transaction against the account's own mean and maximum, and each window against the longest."""
    for window in ("1d", "7d", "30d"):
        en, zh = window_words(window, "en"), window_words(window, "zh")
        yield Feature(
            f"amount_to_mean_{window}", "log_ratio_to_mean",
            ("amount_minor", f"account_sum_{window}", f"account_count_{window}"),
            f"amount against the account's mean over {en}", f"金额与账户{zh}均值之比",
        )  # fmt: skip
        yield Feature(
            f"amount_to_maximum_{window}", "log_ratio", ("amount_minor", f"account_maximum_{window}"),
            f"amount against the account's largest over {en}", f"金额与账户{zh}最大金额之比",
        )  # fmt: skip
    for window in ("10m", "1h", "1d", "7d"):
        yield Feature(
            f"account_pace_{window}", "share", (f"account_count_{window}", "account_count_30d"),
            f"share of the account's 30 days' transactions that fall in {window_words(window, 'en')}",
            f"账户近 30 天交易中{window_words(window, 'zh')}所占比例",
        )  # fmt: skip
    yield Feature(
        "amount_to_merchant_mean_30d", "log_ratio_to_mean", ("amount_minor", "merchant_sum_30d", "merchant_count_30d"),
        "amount against the merchant's mean over the last 30 days", "金额与商户最近 30 天均值之比",
    )  # fmt: skip
    for window in ("1d", "7d", "30d"):
        yield Feature(
            f"merchant_fraud_share_{window}", "share", (f"merchant_fraud_count_{window}", f"merchant_count_{window}"),
            f"frauds reported at the merchant per transaction over {window_words(window, 'en')}",
            f"商户{window_words(window, 'zh')}每笔交易的欺诈报告数",
        )  # fmt: skip


FEATURES: Final[tuple[Feature, ...]] = (
    Feature("amount_log", "log", ("amount_minor",), "the amount", "交易金额"),
    *_of_measures(),
    *_of_habits(),
    Feature(
        "account_known", "known", ("account_seconds_since",), "whether the account was seen before", "账户是否出现过",
    ),
    Feature("hour_sine", "hour_sine", ("occurred_at",), "the hour of the day", "一天中的时刻"),
    Feature("hour_cosine", "hour_cosine", ("occurred_at",), "the hour of the day", "一天中的时刻"),
    Feature("weekday_sine", "weekday_sine", ("occurred_at",), "the day of the week", "星期几"),
    Feature("weekday_cosine", "weekday_cosine", ("occurred_at",), "the day of the week", "星期几"),
    Feature("night", "night", ("occurred_at",), "whether it is night (UTC, before 6)", "是否在夜间（UTC 6 点前）"),
    Feature("weekend", "weekend", ("occurred_at",), "whether it is a weekend", "是否在周末"),
    Feature(
        "distance_km", "distance_km", ("latitude_e6", "longitude_e6", "account_latitude_e6", "account_longitude_e6"),
        "distance from the account's last place", "与账户上次地点的距离",
    ),
    Feature(
        "speed_kmh", "speed_kmh",
        ("latitude_e6", "longitude_e6", "account_latitude_e6", "account_longitude_e6", "account_seconds_since_place"),
        "speed needed to come from the account's last place", "从账户上次地点到此所需的速度",
    ),
    Feature("channel", "vocabulary", ("channel",), "the channel", "交易渠道", vocabulary_max=8),
    Feature("mcc", "vocabulary", ("mcc",), "the merchant's category", "商户类别", vocabulary_max=400),
    Feature("country", "vocabulary", ("country",), "the country", "国家或地区", vocabulary_max=200),
    Feature("currency", "vocabulary", ("currency",), "the currency", "币种", vocabulary_max=100),
)  # fmt: skip

FEATURE_NAMES: Final = tuple(feature.name for feature in FEATURES)

RAW_INTEGERS: Final = ("occurred_at", "amount_minor", "latitude_e6", "longitude_e6")
RAW_STRINGS: Final = ("currency", "channel", "mcc", "country")


def table(name: str) -> Table:
    """The table of this name; raises InvalidDeclaration where there is none."""
    for candidate in TABLES:
        if candidate.name == name:
            return candidate
    raise InvalidDeclaration("declaration", "table", name, "one of " + ", ".join(each.name for each in TABLES))


def measures_of(name: str) -> tuple[Measure, ...]:
    """The measures of one table, in the order of HISTORY."""
    return tuple(measure for measure in HISTORY if measure.table == name)


def windows_us(name: str) -> tuple[int, ...]:
    """The different windows of a table's measures, shortest first, in microseconds."""
    return tuple(sorted({measure.window_us for measure in measures_of(name)} - {0}))


def horizon_us(name: str) -> int:
    """How much older than the key's newest entry an entry may be before it is forgotten, in microseconds."""
    return max(windows_us(name), default=0) + LATENESS_US


@functools.cache
def fingerprint() -> str:
    """16 hexadecimal digits that change whenever a declared number changes its meaning; words do not count."""
    meaning = {
        "semantics": SEMANTICS,
        "lateness_us": LATENESS_US,
        "tables": [[each.name, each.entity, each.stream, each.bound, each.distinct] for each in TABLES],
        "history": [[each.table, each.kind, each.window] for each in HISTORY],
        "features": [[each.name, each.transform, each.inputs, each.vocabulary_max] for each in FEATURES],
    }
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]


def _check() -> None:
    for each in HISTORY:
        where = table(each.table)
        if each.kind == "distinct" and where.distinct is None:
            allowed = f"a table that keeps another entity (not {where.name})"
            raise InvalidDeclaration(f"measure {each.name}", "kind", each.kind, allowed)
        if each.kind in WINDOWED and not where.bound:
            raise InvalidDeclaration(f"measure {each.name}", "table", where.name, "a table with a bound above 0")
    for names, what in ((HISTORY_NAMES, "measure"), (FEATURE_NAMES, "feature")):
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise InvalidDeclaration("declaration", what, twice, "each name once")
    known = {*HISTORY_NAMES, *RAW_INTEGERS, *RAW_STRINGS}
    for feature in FEATURES:
        unknown = [name for name in feature.inputs if name not in known]
        if unknown:
            raise InvalidDeclaration(f"feature {feature.name}", "inputs", unknown, "measures or raw columns")


_check()
