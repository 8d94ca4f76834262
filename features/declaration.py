"""This release's declaration: every measure and feature, declared once, and the words for it.

Layer 2 (history) follows `TABLES` and `HISTORY`: integers only. Layer 3 (preprocessing) follows `FEATURES`: every
float. The kernel's plan, the model's inputs, the reasons an analyst reads and the docs all derive from here; adding a
window or a measure is one line in `HISTORY`, nothing else. What a line means is `features.grammar`'s matter.
"""

import itertools
from collections.abc import Iterator
from typing import Final

from features.grammar import PLACE_MEASURES, Declaration, Feature, Measure, Table
from features.words import window_words

USUAL: Final = "90d"
"""Over which window an account's own habit is taken."""

SILENCE: Final = "7d"
"""How old a transaction must be for the absence of a fraud report to say that it was genuine."""

TABLES: Final = (
    Table("account", "account", "transactions", bound=512, distinct="merchant", usual=USUAL),
    Table("account_merchant", "account_merchant", "transactions", bound=0),
    Table("merchant", "merchant", "transactions", bound=4096, outcomes=True),
    Table("device", "device", "transactions", bound=256, distinct="account"),
    Table("account_fraud", "account", "fraud_labels", bound=64),
    Table("merchant_fraud", "merchant", "fraud_labels", bound=1024),
)


def measures(table: str, kinds: str, windows: str = "") -> Iterator[Measure]:
    """The measures of a table for every kind and window given, as words parted by spaces."""
    for kind, window in itertools.product(kinds.split(), windows.split() or [""]):
        yield Measure(table, kind, window)  # type: ignore[arg-type]  # __post_init__ and _check refuse wrong ones


HISTORY: Final[tuple[Measure, ...]] = (
    *measures("account", "count sum maximum", "10m 1h 1d 7d 30d"),
    *measures("account", "count sum squares", USUAL),
    *measures("account", "unusual", "1d 3d 7d 14d"),
    *measures("account", "distinct", "1d"),
    *measures("account", "seconds_since latitude_e6 longitude_e6 seconds_since_place"),
    *measures("account_merchant", "ever"),
    *measures("merchant", "count sum", "1h 1d 7d 30d"),
    *measures("merchant", "count", "8d 14d 21d 37d 67d"),
    *measures("merchant", "fraud_run seconds_since_fraud_run fraud_run_last fraud_run_minimum", SILENCE),
    *measures("device", "distinct", "1d 7d"),
    *measures("account_fraud", "count", "7d 14d 30d 60d"),
    *measures("account_fraud", "seconds_since"),
    *measures("merchant_fraud", "count", "1d 7d 14d 30d 60d"),
    *measures("merchant_fraud", "seconds_since_first", "30d 60d"),
    *measures("merchant_fraud", "seconds_since"),
)

RATES: Final = {"1d": "8d", "7d": "14d", "14d": "21d", "30d": "37d", "60d": "67d"}
"""Windows of fraud reports, and each with the week before in which most of them were still to come."""

_PARTS: Final = frozenset({*PLACE_MEASURES, "squares"})
_ENDS: Final = frozenset(f"merchant_count_{longer}" for longer in RATES.values())
"""Kinds and measures that say something in a formula with others alone."""


def _of_measures() -> Iterator[Feature]:
    """Each measure that says something alone becomes a feature by itself: its logarithm, scaled."""
    for measure in HISTORY:
        if measure.kind not in _PARTS and measure.name not in _ENDS:
            yield Feature(f"{measure.name}_log", "log", (measure.name,), measure.text_en, measure.text_zh)


def _of_habits() -> Iterator[Feature]:
    """The transaction against the account's own mean, spread and maximum, and each window against a longer one."""
    for window in ("1d", "7d", "30d", USUAL):
        en, zh = window_words(window, "en"), window_words(window, "zh")
        yield Feature(
            f"amount_to_mean_{window}", "log_ratio_to_mean",
            ("amount_minor", f"account_sum_{window}", f"account_count_{window}"),
            f"amount against the account's mean over {en}", f"金额与账户{zh}均值之比",
        )  # fmt: skip
        if window != USUAL:
            yield Feature(
                f"amount_to_maximum_{window}", "log_ratio", ("amount_minor", f"account_maximum_{window}"),
                f"amount against the account's largest over {en}", f"金额与账户{zh}最大金额之比",
            )  # fmt: skip
    yield Feature(
        "amount_z_score_90d", "z_score",
        ("amount_minor", "account_sum_90d", "account_squares_90d", "account_count_90d"),
        "amount against the account's mean and spread over the last 90 days", "金额偏离账户最近 90 天均值的标准差倍数",
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
    for window, longer in RATES.items():
        yield Feature(
            f"merchant_fraud_rate_{window}", "share_of_difference",
            (f"merchant_fraud_count_{window}", f"merchant_count_{longer}", "merchant_count_7d"),
            f"frauds reported at the merchant in {window_words(window, 'en')} per transaction of a week earlier",
            f"商户{window_words(window, 'zh')}的欺诈报告数与一周前同期交易笔数之比",
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

DECLARATION: Final = Declaration(tables=TABLES, history=HISTORY, features=FEATURES)

HISTORY_NAMES: Final = DECLARATION.history_names
FEATURE_NAMES: Final = DECLARATION.feature_names


def fingerprint() -> str:
    """The fingerprint of this release's declaration."""
    return DECLARATION.fingerprint
