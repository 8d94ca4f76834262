"""The words of measures and windows in English and Chinese, so that no feature is ever shown by its code name."""

from typing import Literal

Language = Literal["en", "zh"]

_UNITS = {
    "en": {"m": ("minute", "minutes"), "h": ("hour", "hours"), "d": ("day", "days")},
    "zh": {"m": ("分钟", "分钟"), "h": ("小时", "小时"), "d": ("天", "天")},
}

_SUBJECTS = {
    "account": ("the account's", "账户"),
    "merchant": ("the merchant's", "商户"),
    "device": ("the device's", "设备"),
    "account_merchant": ("the account's", "账户"),
    "account_fraud": ("the account's", "账户"),
    "merchant_fraud": ("the merchant's", "商户"),
}

_KINDS = {
    "count": ("transactions", "交易笔数"),
    "sum": ("total amount", "交易总额"),
    "maximum": ("largest amount", "最大金额"),
    "ever": ("earlier transactions at this merchant", "此前在该商户的交易笔数"),
    "seconds_since": ("time since the last transaction", "距上一笔交易的时间"),
    "latitude_e6": ("last known latitude", "上次已知纬度"),
    "longitude_e6": ("last known longitude", "上次已知经度"),
    "seconds_since_place": ("time since the last known place", "距上次已知地点的时间"),
    "unusual": ("unusually large transactions", "异常大额交易笔数"),
    "squares": ("sum of squared amounts", "金额平方和"),
    "seconds_since_first": ("time since the first transaction", "距首笔交易的时间"),
}

_RUNS = {
    "fraud_run": ("{} frauds in a row among transactions older than {}", "{} {}前的交易中连续欺诈笔数"),
    "seconds_since_fraud_run": (
        "time since the first of {} frauds in a row (transactions older than {})",
        "{} {}前的交易中距首笔连续欺诈的时间",
    ),
    "fraud_run_last": (
        "amount of the last of {} frauds in a row (transactions older than {})",
        "{} {}前的交易中最后一笔连续欺诈的金额",
    ),
    "fraud_run_minimum": (
        "smallest amount of {} frauds in a row (transactions older than {})",
        "{} {}前的交易中连续欺诈的最小金额",
    ),
}
"""Kinds whose window is what lies behind it: whose frauds, and how old the transactions are."""

_LABEL_KINDS = {
    "ever": ("fraud reports so far", "迄今的欺诈报告数"),
    "seconds_since": ("time since the last fraud report", "距上次欺诈报告的时间"),
    "seconds_since_first": ("time since the first fraud report", "距首次欺诈报告的时间"),
}

_DISTINCT = {"account": ("different merchants", "不同商户数"), "device": ("different accounts", "不同账户数")}


def window_words(window: str, language: Language) -> str:
    """A window in words.

    >>> window_words("10m", "en"), window_words("1d", "zh")
    ('the last 10 minutes', '最近 1 天')
    """
    number, unit = int(window[:-1]), window[-1]
    if language == "zh":
        return f"最近 {number} {_UNITS['zh'][unit][0]}"
    singular, plural = _UNITS["en"][unit]
    return f"the last {singular}" if number == 1 else f"the last {number} {plural}"


def measure_words(table: str, kind: str, window: str, language: Language) -> str:
    """A measure in words.

    >>> measure_words("account", "count", "10m", "en")
    "the account's transactions in the last 10 minutes"
    >>> measure_words("merchant_fraud", "count", "7d", "zh")
    '商户最近 7 天的欺诈报告数'
    >>> measure_words("merchant", "fraud_run", "7d", "en"), measure_words("merchant", "fraud_run", "7d", "zh")
    ("the merchant's frauds in a row among transactions older than 7 days", '商户 7 天前的交易中连续欺诈笔数')
    """
    column = 0 if language == "en" else 1
    subject = _SUBJECTS.get(table, (f"the {table}'s", table))[column]
    if kind in _RUNS:
        number, unit = int(window[:-1]), window[-1]
        return _RUNS[kind][column].format(subject, f"{number} {_UNITS[language][unit][number > 1]}")
    if kind == "distinct":
        what = _DISTINCT.get(table, ("different partners", "不同对象数"))[column]
    elif table.endswith("_fraud"):
        what = _LABEL_KINDS.get(kind, ("fraud reports", "欺诈报告数"))[column]
    else:
        what = _KINDS[kind][column]
    if language == "en":
        return f"{subject} {what}" + (f" in {window_words(window, 'en')}" if window else "")
    return f"{subject}{window_words(window, 'zh')}的{what}" if window else f"{subject}{what}"
