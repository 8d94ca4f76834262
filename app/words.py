"""A decision in plain words: its reasons and its history, said as the declaration says them.

A decision made under another declaration is shown by its recorded names and integers, since words and windows of
today's declaration would be wrong for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from flask_babel import gettext, lazy_gettext

from app.languages import duration, language, moment, money_words, number
from features import declaration
from features.grammar import ABSENT, PLACE_MEASURES, RAW_STRINGS, RUNS, Feature, Measure, seconds
from features.words import measure_words, window_words
from store.tables import Decision

_FEATURES: Final = {feature.name: feature for feature in declaration.FEATURES}
_MEASURES: Final = {measure.name: (index, measure) for index, measure in enumerate(declaration.HISTORY)}

_RULES: Final = {
    "declined_account": lazy_gettext("The account is on the list of declined accounts."),
    "declined_merchant": lazy_gettext("The merchant is on the list of declined merchants."),
    "declined_device": lazy_gettext("The device is on the list of declined devices."),
    "review_amount": lazy_gettext("The amount is at or above the limit for review."),
    "let_through": lazy_gettext(
        "The score alone would have declined it; drawn at random for review, so that wrong declines become known."
    ),
}
_FAULTS: Final = {
    "model_unavailable": lazy_gettext("No model answered in time, so a person decides."),
    "not_explained": lazy_gettext("The model gave a score, but no explanation of it came."),
}
_ENTITIES: Final = {
    "account": lazy_gettext("Account"),
    "account_merchant": lazy_gettext("Account and merchant"),
    "merchant": lazy_gettext("Merchant"),
    "device": lazy_gettext("Device"),
    "account_fraud": lazy_gettext("Account: reported fraud"),
    "merchant_fraud": lazy_gettext("Merchant: reported fraud"),
}


@dataclass(frozen=True, slots=True)
class ReasonWords:
    """A reason as an analyst reads it; effect in log-odds, None for rules and faults; origin: the values behind it."""

    kind: str
    text: str
    effect: float | None
    origin: str


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of measure over the page's windows; cells: (text, whether it is 0), empty where it is not measured."""

    text: str
    cells: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class Group:
    """What is remembered of one entity: rows over the page's windows, and single facts as (text, value)."""

    title: str
    rows: tuple[Row, ...]
    singles: tuple[tuple[str, str], ...]


WINDOWS: Final = tuple(
    sorted(
        {each.window for each in declaration.HISTORY if (each.table, each.kind) == ("account", "count")}, key=seconds
    )
)
"""Over which windows an account's transactions are counted, shortest first: the columns of the history's table."""


def declared(decision: Decision) -> bool:
    """Whether a decision was made under the declaration that this process runs."""
    return bool(decision.fingerprint == declaration.fingerprint())


def feature_words(name: str) -> str:
    """What a feature looks at, in the page's language; its recorded name where it is no longer declared."""
    feature = _FEATURES.get(name)
    if feature is None:
        return name
    return feature.reason_zh if language() == "zh" else feature.reason_en


def reasons(decision: Decision) -> list[ReasonWords]:
    """A decision's reasons, rules and faults first, then features by the size of their effect.

    Features with the same words (the two halves of a cyclic hour, for instance) are told as one.
    """
    said: list[ReasonWords] = []
    effects: dict[str, float] = {}
    origins: dict[str, str] = {}
    for reason in decision.reasons:
        code = str(reason["code"])
        if reason["kind"] == "feature":
            text = feature_words(code)
            effects[text] = effects.get(text, 0.0) + float(reason.get("effect") or 0.0)
            origins.setdefault(text, _origin(decision, _FEATURES.get(code)))
        else:
            words = _RULES if reason["kind"] == "rule" else _FAULTS
            said.append(ReasonWords(str(reason["kind"]), str(words.get(code, code)), None, ""))
    ordered = sorted(effects, key=lambda text: abs(effects[text]), reverse=True)
    return said + [ReasonWords("feature", text, effects[text], origins[text]) for text in ordered]


def first_reason(decision: Decision) -> str:
    """The one reason that a list has room for."""
    return next((reason.text for reason in reasons(decision)), "")


def _origin(decision: Decision, feature: Feature | None) -> str:
    if feature is None or not declared(decision):
        return ""
    values = []
    for name in feature.inputs:
        if name == "amount_minor":
            values.append(money_words(decision.amount_minor, decision.currency))
        elif name == "occurred_at":
            values.append(moment(decision.occurred_at))
        elif name in RAW_STRINGS:
            values.append(str(getattr(decision, name)))
        elif name in _MEASURES and _MEASURES[name][1].kind not in {*PLACE_MEASURES, "squares"}:
            index, measure = _MEASURES[name]
            shown = measure_value(measure, decision.history[index], decision.currency)
            # a feature that is one measure by itself has that measure's words already
            alone = len(feature.inputs) == 1
            values.append(shown if alone else gettext("%(what)s: %(value)s", what=measure_text(measure), value=shown))
    return " · ".join(values)


def measure_text(measure: Measure) -> str:
    """What a measure counts, in the page's language."""
    return measure.text_zh if language() == "zh" else measure.text_en


def measure_value(measure: Measure, value: int, currency: str) -> str:
    """A measure's integer with its unit."""
    match measure.kind:
        case "sum" | "maximum" | "fraud_run_last" | "fraud_run_minimum":
            return money_words(value, currency)
        case "seconds_since" | "seconds_since_place" | "seconds_since_first" | "seconds_since_fraud_run":
            return str(gettext("never before")) if value < 0 else duration(value)
        case "latitude_e6" | "longitude_e6":
            return str(gettext("not known")) if value == ABSENT else f"{value / 1e6:.5f}°"
        case _:
            return number(value)


def windows() -> list[str]:
    """The columns of the history's table, in words."""
    spoken: Any = language()
    return [window_words(window, spoken) for window in WINDOWS]


def history(decision: Decision) -> list[Group]:
    """What was known before the transaction, by entity; empty for a decision of another declaration."""
    if not declared(decision):
        return []
    return [_group(table.name, decision.history, decision.currency) for table in declaration.TABLES]


def _group(table: str, values: Sequence[Any], currency: str) -> Group:
    spoken: Any = language()
    cells: dict[str, dict[str, tuple[str, bool]]] = {}
    singles = []
    measures = declaration.DECLARATION.measures_of(table)
    in_columns = {each.kind for each in measures if each.window in WINDOWS}
    for measure in measures:
        value = int(values[_MEASURES[measure.name][0]])
        shown = measure_value(measure, value, currency)
        if measure.kind == "squares":
            continue  # half of a standard deviation: nothing that a person reads
        if measure.kind in RUNS:
            singles.append((measure_text(measure), shown))
        elif measure.window in WINDOWS:
            cells.setdefault(measure.kind, {})[measure.window] = (shown, value == 0)
        elif not measure.window or measure.kind not in in_columns:
            singles.append((measure_text(measure), shown))
    return Group(
        title=str(_ENTITIES.get(table, table)),
        rows=tuple(
            Row(measure_words(table, kind, "", spoken), tuple(row.get(window, ("", True)) for window in WINDOWS))
            for kind, row in cells.items()
        ),
        singles=tuple(singles),
    )
