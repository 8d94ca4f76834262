"""The kinds of checks that the gate makes, each with its sentence in English and Chinese."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from retrain.gate_limits import BY_NAME, Limits, Name, level_of
from training.bootstrap import interval
from training.metrics import Float64
from training.resampled import SHOWN_LEVEL, UNBOUNDED

SHARES: Final = frozenset({"review_load"})
"""Absolute figures that cannot be above 1; the others are ratios."""
NOTHING: Final = 1e-12
"""A difference below it is one of rounding, and told as none."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check: whether it passed, and the figures behind it, None where there are none.

    judged: False where it could not be asked, which refuses nothing; part: the slice; limit: what the candidate's
    figure must reach, or may be at most; low, high: the interval of candidate less champion in a compared check, of
    the candidate's figure in another; words, words_zh: the finding as a sentence; warned: a person must accept
    what it found before the version decides.
    """

    name: Name
    passed: bool
    judged: bool
    candidate: float | None
    champion: float | None
    limit: float | None
    low: float | None
    high: float | None
    words: str
    words_zh: str
    part: str = ""
    warned: bool = False

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {each: getattr(self, each) for each in self.__slots__}


def compared(
    name: Name,
    ours: Float64,
    theirs: Float64,
    limits: Limits,
    *,
    lost_most: float,
    less_is_better: bool = False,
    slack: float = 0.0,
    part: str = "",
    among: int = 1,
) -> Check:
    """Whether the candidate is worse: surely, by more than `slack`; or by more than `lost_most`, sure or not.

    ours, theirs: float64 [1 + B], as measured and in every resample, on the same draws; among: of how many slices this
    is one, which share the check's part of alpha.
    """
    rule, sign = BY_NAME[name], -1 if less_is_better else 1
    span = np.inf if name in UNBOUNDED else 1.0
    found = interval(ours - theirs, level_of(name, limits) / among, lowest=-span, highest=span)
    low, high = (found.low, found.high) if np.isfinite(found.error) else (found.estimate, found.estimate)
    surely = (high if sign > 0 else -low) < -slack
    too_much = sign * found.estimate < -lost_most
    passed = not (surely or too_much)
    a, b = _number(ours[0]), _number(theirs[0])
    apart = f"{_signed(found.estimate)} ({_signed(low)} … {_signed(high)})"
    en = f"{_subject(rule.en, part)} is {a}, the champion's {b}: {apart}"
    zh = f"{_subject_zh(rule.zh, part)}为 {a}，冠军为 {b}：相差 {apart}"
    if surely:
        en, zh = f"{en}, worse beyond chance", f"{zh}，变差并非偶然"
    elif too_much:
        en, zh = (
            f"{en}, and {_number(lost_most)} is the most that may be lost",
            f"{zh}，至多允许变差 {_number(lost_most)}",
        )
    limit = float(theirs[0]) - sign * lost_most
    return Check(name, passed, True, float(ours[0]), float(theirs[0]), limit, low, high, en, zh, part)


def bounded(
    name: Name,
    found: Float64 | float | None,
    *,
    least: float | None = None,
    most: float | None = None,
    surely: bool = False,
    unit: tuple[str, str] = ("", ""),
    part: str = "",
) -> Check:
    """Whether a figure of the candidate's own lies within absolute limits.

    found: a figure, or float64 [1 + B] with its resamples, or None where there is none; surely: only a figure whose
    whole interval lies outside is refused.
    """
    rule = BY_NAME[name]
    if found is None:
        return _unasked(name, part)
    if isinstance(found, float):
        value, low, high = found, None, None
    else:
        of = interval(found, SHOWN_LEVEL, lowest=0.0, highest=1.0 if name in SHARES else np.inf)
        value, low, high = of.estimate, of.low, of.high
    bottom, top = (value, value) if low is None or high is None or not surely else (low, high)
    below, above = least is not None and top < least, most is not None and bottom > most
    figure = f"{_number(value)}{f' ({_number(low)} … {_number(high)})' if low is not None and high is not None else ''}"
    en = f"{_subject(rule.en, part)}: {figure}{f' {unit[0]}' if unit[0] else ''}"
    zh = f"{_subject_zh(rule.zh, part)}：{figure}{f' {unit[1]}' if unit[1] else ''}"
    if below and least is not None:
        en, zh = f"{en}, expected {_number(least)} or more", f"{zh}，应至少为 {_number(least)}"
    if above and most is not None:
        en, zh = f"{en}, expected {_number(most)} or less", f"{zh}，应至多为 {_number(most)}"
    limit = most if above or least is None else least
    return Check(name, not (below or above), True, value, None, limit, low, high, en, zh, part)


def fact(
    name: Name,
    value: float | None,
    most: float,
    *,
    least: float | None = None,
    champion: float | None = None,
    compared: int | None = None,
) -> Check:
    """Whether something that was counted or timed is within its limits; None: nobody counted it.

    champion: the champion's figure, to be told; compared: of how many rows.
    """
    rule = BY_NAME[name]
    if value is None:
        return _unasked(name, "")
    value = float(value)
    below, above = least is not None and value < least, value > most
    en, zh = f"{rule.en}: {_number(value)}", f"{rule.zh}：{_number(value)}"
    if name == "parity":
        rows = "" if compared is None else f" in {compared:,} rows"
        rows_zh = "" if compared is None else f"（共 {compared:,} 行）"
        en, zh = f"{rule.en}: {value:.0f} values differ{rows}", f"{rule.zh}：{value:.0f} 个值不同{rows_zh}"
        if compared is None:
            en, zh = f"{rule.en}: no server was asked", f"{rule.zh}：未询问任何服务器"
    if champion is not None:
        en, zh = f"{en}, the champion's {_number(champion)}", f"{zh}，冠军为 {_number(champion)}"
    if below and least is not None:
        en, zh = f"{en}, expected {_number(least)} or more", f"{zh}，应至少为 {_number(least)}"
    if above and (name != "parity" or compared is not None):
        en, zh = f"{en}, expected {_number(most)} or less", f"{zh}，应至多为 {_number(most)}"
    limit = least if below else most
    return Check(name, not (below or above), True, value, champion, limit, None, None, en, zh)


def spread(name: Name, values: Float64, most: float) -> Check:
    """Whether the metric of several networks lies close together; values: float64 [networks, 1 + B]."""
    apart = interval(np.max(values, axis=0) - np.min(values, axis=0), SHOWN_LEVEL, lowest=0.0, highest=1.0)
    each = ", ".join(_number(value) for value in values[:, 0])
    en = f"average precision of {len(values)} seeds: {each}; {_number(apart.estimate)} apart"
    zh = f"{len(values)} 个种子的平均精度：{each}；相差 {_number(apart.estimate)}"
    passed = apart.estimate <= most
    if not passed:
        en, zh = f"{en}, expected {_number(most)} or less", f"{zh}，应至多为 {_number(most)}"
    return Check(name, passed, True, apart.estimate, None, most, apart.low, apart.high, en, zh)


def declines(share: float, most: float) -> Check:
    """How many payments the candidate's thresholds would decline; more than `most` refuses nothing, and is held."""
    rule = BY_NAME["decline_load"]
    en, zh = f"{rule.en}: {_number(share)}", f"{rule.zh}：{_number(share)}"
    if share > most:
        en = f"{en}, more than {_number(most)}: held until a person accepts it"
        zh = f"{zh}，超过 {_number(most)}：须经人工接受后方可上线"
    return Check("decline_load", True, True, share, None, most, None, None, en, zh, warned=share > most)


def comparable(accounts: int, rows: int, since: str, limits: Limits) -> Check:
    """Whether enough is left to compare on: rows and defrauded accounts of days that the champion did not learn from.

    since: the first such day; empty where the champion's card does not say on which days it was trained.
    """
    rule = BY_NAME["comparable"]
    if not since:
        en, zh = "the champion's card does not say on which days it was trained", "冠军的模型卡未注明训练日期"
        return Check("comparable", False, True, None, None, None, None, None, en, zh)
    passed = rows >= limits.rows_least and accounts >= limits.frauds_least
    en = f"{rule.en}: from {since} on, {rows:,} rows and {accounts} defrauded accounts"
    zh = f"{rule.zh}：自 {since} 起，{rows:,} 行，{accounts} 个被盗刷账户"
    if not passed:
        least = f"{limits.rows_least:,} rows and {limits.frauds_least} defrauded accounts or more"
        en = f"{en}, expected {least}: the versions cannot be compared; take a later cut-off, or more test days"
        zh = f"{zh}，应至少为 {limits.rows_least:,} 行和 {limits.frauds_least} 个账户：无法比较；请选择更晚的截止日期"
    limit = float(limits.frauds_least)
    return Check("comparable", passed, True, float(accounts), None, limit, None, None, en, zh)


def _unasked(name: Name, part: str) -> Check:
    rule = BY_NAME[name]
    en, zh = f"{_subject(rule.en, part)}: not measured", f"{_subject_zh(rule.zh, part)}：未测量"
    return Check(name, True, False, None, None, None, None, None, en, zh, part)


def _subject(words: str, part: str) -> str:
    return f"{words}, {part}" if part else words


def _subject_zh(words: str, part: str) -> str:
    return f"{words}（{part}）" if part else words


def _number(value: Any) -> str:
    value = float(value)
    return f"{value:,.0f}" if abs(value) >= 1000 or (value == int(value) and abs(value) >= 10) else f"{value:.4g}"


def _signed(value: float) -> str:
    return f"{value if abs(value) > NOTHING else 0.0:+,.4g}"
