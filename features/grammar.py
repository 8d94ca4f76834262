"""The grammar of a declaration: tables, measures and features as values, and what makes a set of them one declaration.

A release has a declaration of its own (`features.declaration`). A model version, a snapshot and a journal carry the one
that they were made under as JSON, in full, so that a process can go on under a declaration that is not its release's,
and under two at once while a new model takes over from an old one.

What a measure means, exactly: a transaction with event time t sees the entries of its table's key that came before it
in arrival order and whose time lies in (t - window, t]. Of each key the newest `bound` entries by time are remembered,
and none that is older than the key's newest time by `horizon_us` or more; what is forgotten no longer counts.

Over those entries: `count`; `sum` and `maximum` of their amounts; `distinct` other entities; `seconds_since_first`, the
whole seconds since the oldest of them, -1 for none; `squares`, the sum of their amounts' squares, an amount above the
table's `square_most` counting as that, so that no sum leaves int64; `unusual`, how many of them were unusual when they
arrived. An entry is unusual if amount × n > 3 × s, where n and s are what `count` and `sum` over the table's window
`usual` gave it; so the first of a key never is. That is decided once, from what came before the entry, and stays with
it: what comes late later changes it no more than it changes a score.

In a table with `outcomes`, a counted fraud label marks the entry of the transaction that it speaks of: the remembered
entry of the same key whose time is that transaction's occurred_at. Of several at one microsecond, which no number tells
apart, it marks the newest that is not marked yet; a forgotten entry is not marked. There the window says how old a
transaction must be for silence to mean that it was genuine: `fraud_run` is how many entries whose time is t - window or
earlier are marked, going back from the newest of them to the first that is not, and `seconds_since_fraud_run` the whole
seconds since the oldest entry of that run, -1 for none; `fraud_run_last` is the amount of its newest entry and
`fraud_run_minimum` its smallest, 0 for none. The run ends with what is remembered, the transaction's own time counted
among the key's.

Over all that ever came, forgotten or not: `ever`, how many; `seconds_since` the newest of them, -1 for never; the place
named last, and `seconds_since_place`.
"""

import functools
import hashlib
import json
import math
from typing import Any, Final, Literal

import msgspec

from features.words import measure_words
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
    "count", "sum", "maximum", "distinct", "ever", "seconds_since", "latitude_e6", "longitude_e6",
    "seconds_since_place", "unusual", "squares", "seconds_since_first", "fraud_run", "seconds_since_fraud_run",
    "fraud_run_last", "fraud_run_minimum",
]  # fmt: skip
RUNS: Final = frozenset({"fraud_run", "seconds_since_fraud_run", "fraud_run_last", "fraud_run_minimum"})
"""Measures of the frauds in a row, whose window is what lies behind it."""
WINDOWED: Final = frozenset({"count", "sum", "maximum", "distinct", "unusual", "squares", "seconds_since_first"}) | RUNS

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


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of past: whose (entity), of what (stream), how much is remembered of each key (bound, a power of two).

    `distinct` names the other entity that is kept with each entry, so that distinct ones can be counted; `usual` is the
    window whose mean an entry is compared with, so that unusual ones can be counted; `outcomes` says that fraud labels
    mark the entries of their transactions. Where these two are unset they are left out of JSON, so that what was
    written before there were any is the same to the byte.
    """

    name: str
    entity: Entity
    stream: Literal["transactions", "fraud_labels"]
    bound: int
    distinct: Literal["account", "merchant"] | None = None
    usual: str | msgspec.UnsetType = msgspec.UNSET
    outcomes: bool | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        if self.bound and (self.bound < 4 or self.bound & (self.bound - 1)):
            raise InvalidDeclaration(f"table {self.name}", "bound", self.bound, "0 or a power of two, 4 or more")
        if self.usual is not msgspec.UNSET:
            seconds(self.usual)
            if self.stream != "transactions" or not self.bound:
                allowed = "a window of a table of transactions with a bound above 0, or left out"
                raise InvalidDeclaration(f"table {self.name}", "usual", self.usual, allowed)
        if self.outcomes is not msgspec.UNSET:
            named = self.entity in ("account", "merchant")  # what a label names
            if not self.outcomes or self.stream != "transactions" or not self.bound or not named:
                allowed = (
                    "true in a table of an account's or a merchant's transactions with a bound above 0, or left out"
                )
                raise InvalidDeclaration(f"table {self.name}", "outcomes", self.outcomes, allowed)

    @property
    def is_marked(self) -> bool:
        """Whether fraud labels mark the entries of their transactions."""
        return self.outcomes is True

    @property
    def usual_us(self) -> int:
        """The window that an entry is compared with to be unusual, in microseconds; 0 for none."""
        return 0 if self.usual is msgspec.UNSET else seconds(self.usual) * SECOND_US

    @property
    def square_most(self) -> int:
        """What a larger amount counts as in `squares`, minor units: the squares of a full ring stay within int64."""
        return math.isqrt((2**63 - 1) // max(self.bound, 1))


class Measure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One integer of the past of a table's key; `window` is empty where a measure has none."""

    table: str
    kind: Kind
    window: str = ""

    def __post_init__(self) -> None:
        if (self.kind in WINDOWED) != bool(self.window):
            allowed = "a window" if self.kind in WINDOWED else "no window"
            raise InvalidDeclaration(f"measure {self.table}_{self.kind}", "window", self.window, allowed)
        if self.window:
            seconds(self.window)

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


RAW_INTEGERS: Final = ("occurred_at", "amount_minor", "latitude_e6", "longitude_e6")
RAW_STRINGS: Final = ("currency", "channel", "mcc", "country")
PLACE_MEASURES: Final = frozenset({"latitude_e6", "longitude_e6"})
"""Measures whose number says nothing alone, but in a distance."""


Transform = Literal[
    "log", "log_ratio", "log_ratio_to_mean", "share", "known", "hour_sine", "hour_cosine", "weekday_sine",
    "weekday_cosine", "night", "weekend", "distance_km", "speed_kmh", "vocabulary", "z_score",
    "share_of_difference",
]  # fmt: skip


INPUTS: Final[dict[Transform, int]] = {
    "log": 1, "log_ratio": 2, "log_ratio_to_mean": 3, "share": 2, "known": 1, "hour_sine": 1, "hour_cosine": 1,
    "weekday_sine": 1, "weekday_cosine": 1, "night": 1, "weekend": 1, "distance_km": 4, "speed_kmh": 5, "vocabulary": 1,
    "z_score": 4, "share_of_difference": 3,
}  # fmt: skip
"""How many inputs each transform takes."""


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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

    def __post_init__(self) -> None:
        if len(self.inputs) != INPUTS[self.transform]:
            allowed = f"{INPUTS[self.transform]} of them, as {self.transform} takes"
            raise InvalidDeclaration(f"feature {self.name}", "inputs", self.inputs, allowed)
        if self.is_category != (self.transform == "vocabulary"):
            allowed = "1 or more for a vocabulary, 0 for any other transform"
            raise InvalidDeclaration(f"feature {self.name}", "vocabulary_max", self.vocabulary_max, allowed)

    @property
    def is_category(self) -> bool:
        """Whether it is an index into a vocabulary rather than a scaled number."""
        return self.vocabulary_max > 0


class Declaration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """Every measure and feature of a model, in order; raises InvalidDeclaration where it contradicts itself."""

    semantics: int = SEMANTICS
    lateness_us: int = LATENESS_US
    tables: tuple[Table, ...]
    history: tuple[Measure, ...]
    features: tuple[Feature, ...]

    def __post_init__(self) -> None:
        if self.semantics != SEMANTICS:
            raise InvalidDeclaration(
                "declaration", "semantics", self.semantics, f"{SEMANTICS}, as this release computes"
            )
        for each in self.history:
            where = self.table(each.table)
            if each.kind == "distinct" and where.distinct is None:
                allowed = f"a table that keeps another entity (not {where.name})"
                raise InvalidDeclaration(f"measure {each.name}", "kind", each.kind, allowed)
            if each.kind == "unusual" and not where.usual_us:
                allowed = f"a table that says what is `usual` (not {where.name})"
                raise InvalidDeclaration(f"measure {each.name}", "kind", each.kind, allowed)
            if each.kind in RUNS and not where.is_marked:
                allowed = f"a table with `outcomes` (not {where.name})"
                raise InvalidDeclaration(f"measure {each.name}", "kind", each.kind, allowed)
            if each.kind in WINDOWED and not where.bound:
                raise InvalidDeclaration(f"measure {each.name}", "table", where.name, "a table with a bound above 0")
        table_names = tuple(each.name for each in self.tables)
        for names, what in ((table_names, "table"), (self.history_names, "measure"), (self.feature_names, "feature")):
            if len(set(names)) != len(names):
                twice = sorted({name for name in names if names.count(name) > 1})
                raise InvalidDeclaration("declaration", what, twice, "each name once")
        known = {*self.history_names, *RAW_INTEGERS, *RAW_STRINGS}
        for feature in self.features:
            unknown = [name for name in feature.inputs if name not in known]
            if unknown:
                raise InvalidDeclaration(f"feature {feature.name}", "inputs", unknown, "measures or raw columns")

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change whenever a declared number changes its meaning; words do not count."""
        meaning = {
            "semantics": self.semantics,
            "lateness_us": self.lateness_us,
            "tables": [
                [
                    each.name,
                    each.entity,
                    each.stream,
                    each.bound,
                    each.distinct,
                    *([each.usual] if each.usual_us else []),
                    *(["outcomes"] if each.is_marked else []),
                ]
                for each in self.tables
            ],
            "history": [[each.table, each.kind, each.window] for each in self.history],
            "features": [[each.name, each.transform, each.inputs, each.vocabulary_max] for each in self.features],
        }
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:16]

    @functools.cached_property
    def history_names(self) -> tuple[str, ...]:
        """Names of the measures: the columns of a history matrix, in order."""
        return tuple(measure.name for measure in self.history)

    @functools.cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(feature.name for feature in self.features)

    @functools.cached_property
    def numbers(self) -> tuple[Feature, ...]:
        """The features that are scaled numbers."""
        return tuple(feature for feature in self.features if not feature.is_category)

    @functools.cached_property
    def categories(self) -> tuple[Feature, ...]:
        """The features that are indices into a vocabulary."""
        return tuple(feature for feature in self.features if feature.is_category)

    def table(self, name: str) -> Table:
        """The table of this name; raises InvalidDeclaration where there is none."""
        for candidate in self.tables:
            if candidate.name == name:
                return candidate
        raise InvalidDeclaration("declaration", "table", name, "one of " + ", ".join(each.name for each in self.tables))

    def measures_of(self, table: str) -> tuple[Measure, ...]:
        """The measures of one table, in the order of `history`."""
        return tuple(measure for measure in self.history if measure.table == table)

    def windows_us(self, table: str) -> tuple[int, ...]:
        """The different windows of a table and its measures, shortest first, in microseconds."""
        of_measures = {measure.window_us for measure in self.measures_of(table)}
        return tuple(sorted((of_measures | {self.table(table).usual_us}) - {0}))

    def horizon_us(self, table: str) -> int:
        """How much older than the key's newest entry an entry may be before it is forgotten, in microseconds."""
        return max(self.windows_us(table), default=0) + self.lateness_us


encode: Final = msgspec.json.Encoder().encode
"""A declaration as JSON bytes."""


def decode(raw: bytes) -> Declaration:
    """The declaration in JSON bytes. Raises InvalidDeclaration, which says where the bytes are none."""
    try:
        return msgspec.json.decode(raw, type=Declaration)
    except msgspec.MsgspecError as error:
        raise InvalidDeclaration("declaration", "JSON", raw, f"a declaration ({error})") from error


def fields_of(declaration: Declaration) -> dict[str, Any]:
    """A declaration as plain lists and dicts, for a record that holds it among other things."""
    fields: dict[str, Any] = msgspec.to_builtins(declaration)
    return fields


def from_fields(fields: dict[str, Any]) -> Declaration:
    """The declaration that `fields_of` took apart. Raises InvalidDeclaration."""
    try:
        return msgspec.convert(fields, Declaration)
    except msgspec.MsgspecError as error:
        raise InvalidDeclaration("declaration", "fields", fields, f"a declaration ({error})") from error
