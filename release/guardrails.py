"""Every guardrail as a pure function of counts: what it measures, against what, and how sure it is.

A rule speaks when three things hold: there is a sample, its figure is on the wrong side of its limit, and the evidence
that this is no chance has reached the rule's part of the alarm budget. Only the evidence decides about false alarms;
the other two can but make a rule quieter.

Rules about outcomes count accounts, not payments. An account is dealt to the version or to the champion by a hash that
knows nothing of it. So if the version's rate is `ratio` times the champion's at most, the next account with a hit is
the version's with probability `share_limit(share, ratio)` at most, whatever the hour, the season or the attack.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, get_args

import numpy as np

from features.psi import psi
from plumbline.codes import Channel
from plumbline.transaction import DAY_US, SECOND_US
from release.counts import AMOUNT_EDGES, COUNTRIES_MOST, SCORE_EDGES, Calls, Counts
from release.limits import RULES, Limits, Name, Rule, alpha_of
from release.sequential import log_evidence, needed, share_limit

P99: Final = 0.99
DAY_SECONDS: Final = DAY_US / SECOND_US
BINS: Final = len(SCORE_EDGES) + 1
SLICES_MOST: Final = len(get_args(Channel)) + len(AMOUNT_EDGES) + 1 + COUNTRIES_MOST + 1

Side = Literal["above", "below"]

HEAVY: Final = 1 / 3
OUTCOMES: Final = ("outcomes", "slices")
"""Rules by which a version is told that alerts too little: one without any alert must have had time to show it."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What one rule says of one slice, on one side.

    slice: `channel ecom`, `score 3`, `review`, or empty; value, reference: the version's figure and the champion's, in
    the rule's unit, None where there is none yet; limit: what the value may be at most, or at least where side is
    `below`; hits of trials; sample: against `rule.least` and `rule.enough`; evidence, needed: natural logarithms;
    off: whether the figure is on the wrong side; able: whether the rule could have spoken by now.
    """

    rule: Name
    slice: str
    side: Side
    value: float | None
    reference: float | None
    limit: float | None
    hits: int
    trials: int
    sample: int
    evidence: float
    needed: float
    off: bool
    least: int
    enough: int
    able: bool

    @property
    def ready(self) -> bool:
        """Whether the rule's silence says something: there is a sample, and against a version without any hit it would
        have spoken."""
        return self.sample >= self.enough and self.able

    @property
    def breached(self) -> bool:
        """Whether the rule speaks."""
        return self.off and self.sample >= self.least and self.evidence >= self.needed

    @property
    def part(self) -> float:
        """How far the evidence has come, from 0 to 1 at the alarm."""
        return min(max(self.evidence, 0.0) / self.needed, 1.0)


@dataclass(frozen=True, slots=True)
class _Question:
    """A figure before its evidence is known; alpha: its part of the budget of one look at all rules."""

    rule: Rule
    alpha: float
    slice: str
    side: Side
    value: float | None
    reference: float | None
    limit: float | None
    hits: int
    trials: int
    chance: float
    sample: int
    off: bool


def judge(counts: Counts, limits: Limits, share: float, *, paired: bool, budget: float) -> list[Figure]:
    """Every rule's figures, in the order of RULES.

    share: of the accounts that are dealt to the version or the champion, the version's, in (0, 1); paired: the version
    scored the champion's own rows, as a shadow does, and decided none: rules about outcomes have nothing to say;
    budget: the part of each rule's alarm budget that this span has.
    """
    asked = [each for rule in RULES for each in _questions(rule, counts, limits, share, paired=paired)]
    if not asked:
        return []
    hits, trials, chances = np.array([(each.hits, each.trials, each.chance) for each in asked]).T
    evidence, most = log_evidence(hits, trials, chances).tolist(), log_evidence(hits, hits, chances).tolist()
    return [
        Figure(
            each.rule.name, each.slice, each.side, each.value, each.reference, each.limit, each.hits, each.trials,
            each.sample, found, wanted, each.off, each.rule.least, each.rule.enough,
            each.side == "above" or each.rule.name not in OUTCOMES or alone >= wanted,
        )
        for each, found, alone in zip(asked, evidence, most, strict=True)
        for wanted in [needed(each.alpha * budget)]
    ]  # fmt: skip


def passed(figures: Sequence[Figure]) -> bool:
    """Whether every rule has a sample in which it would have spoken, on both sides, and none is breached.

    Of the slices it is those that hold a third of what the largest one holds: the rare ones would never have it.
    """
    most = max((each.trials for each in figures if each.rule == "slices"), default=0)
    judged = [each for each in figures if each.rule != "slices" or each.trials >= most * HEAVY]
    ready: dict[tuple[str, str], bool] = {}
    for each in judged:
        part = (each.rule, each.slice + each.side if each.rule == "slices" else each.side)
        ready[part] = ready.get(part, False) or each.ready
    return bool(ready) and all(ready.values()) and not any(each.breached for each in figures)


def closest(figures: Sequence[Figure]) -> list[Figure]:
    """Of each rule the figure that is breached, or closest to its alarm."""
    best: dict[str, Figure] = {}
    for each in figures:
        if each.rule not in best or _urgency(each) > _urgency(best[each.rule]):
            best[each.rule] = each
    return list(best.values())


def _urgency(each: Figure) -> tuple[bool, float]:
    return each.breached, each.evidence - each.needed


def _questions(rule: Rule, counts: Counts, limits: Limits, share: float, *, paired: bool) -> Iterator[_Question]:
    alpha = alpha_of(rule, limits)
    if rule.name == "errors":
        yield _errors(rule, alpha, counts, limits)
    elif rule.name in ("latency", "slower"):
        yield _latency(rule, alpha, counts, limits)
    elif rule.name == "scores":
        yield from _scores(rule, alpha, counts, limits, share)
    elif paired:
        return
    elif rule.name == "outcomes":
        for key in ("review", "decline"):
            yield from _both_sides(rule, alpha / 2, counts, limits.outcome_ratio, share, key)
    elif rule.name == "load":
        yield _load(rule, alpha, counts, limits, share)
    elif rule.name == "slices":
        for key in sorted(counts.rows):
            if key.startswith("alert "):
                part = key.removeprefix("alert ")
                yield from _both_sides(
                    rule, alpha / SLICES_MOST, counts, limits.slice_ratio, share, key, part, f"all {part}"
                )
    elif rule.name == "precision":
        yield _precision(rule, alpha, counts, limits, share)
    else:
        yield _ratio(rule, alpha, counts, "above", limits.label_ratio, share, "missed", "", "all")


def _errors(rule: Rule, alpha: float, counts: Counts, limits: Limits) -> _Question:
    mine, champion = counts.calls, counts.champion_calls
    value, reference = _part(mine.failed, mine.asked), _part(champion.failed, champion.asked)
    off = value is not None and value > max(limits.error_share, limits.call_ratio * (reference or 0.0))
    return _Question(
        rule, alpha, "", "above", value, reference, limits.error_share, mine.failed, mine.asked, limits.error_share,
        mine.asked, off,
    )  # fmt: skip


def _latency(rule: Rule, alpha: float, counts: Counts, limits: Limits) -> _Question:
    """p99 is above T exactly when more than one call of a hundred takes longer than T."""
    mine, champion = counts.calls, counts.champion_calls
    value, reference = mine.percentile_us(P99), champion.percentile_us(P99)
    if rule.name == "latency":
        limit, hits, champions = limits.latency_ms, mine.slow, champion.slow
    else:
        limit, hits, champions = slower_us(champion, limits) / 1000, mine.slower, champion.slower
    share, others = hits / max(mine.asked, 1), champions / max(champion.asked, 1)
    value_ms, reference_ms = (None if each is None else each / 1000 for each in (value, reference))
    return _Question(
        rule, alpha, "", "above", value_ms, reference_ms, limit, hits, mine.asked, 1 - P99, mine.asked,
        share > max(1 - P99, limits.call_ratio * others),
    )  # fmt: skip


def slower_us(champion: Calls, limits: Limits) -> float:
    """From where on a call counts as slower than the champion's, by the champion's calls so far."""
    reference = champion.percentile_us(P99)
    return max(limits.latency_floor_ms * 1000, limits.latency_ratio * (reference or 0.0))


def _scores(rule: Rule, alpha: float, counts: Counts, limits: Limits, share: float) -> Iterator[_Question]:
    """The index says how far the distributions lie apart; a bin's accounts say that it is no chance."""
    mine, champions = counts.scores()
    index = psi(champions, mine) if sum(mine) and sum(champions) else None
    for place in range(BINS):
        for side in _SIDES:
            key, name = f"score {place}", _range(place)
            found = _ratio(rule, alpha / (2 * BINS), counts, side, limits.score_ratio, share, key, name, "all")
            yield _Question(
                rule, found.alpha, found.slice, side, index, None, limits.psi, found.hits, found.trials, found.chance,
                min(sum(mine), sum(champions)), index is not None and index >= limits.psi,
            )  # fmt: skip


def _load(rule: Rule, alpha: float, counts: Counts, limits: Limits, share: float) -> _Question:
    """Alerts a day, if all decisions were the version's."""
    found = _ratio(rule, alpha, counts, "above", limits.load_ratio, share, "alert", "", "all")
    a_day = counts.row("all").both / counts.seconds * DAY_SECONDS if counts.seconds else 0.0
    value, reference = (None if each is None else each * a_day for each in (found.value, found.reference))
    off = value is not None and value > limits.reviews_a_day and found.off
    return _Question(
        rule, alpha, "", "above", value, reference, limits.reviews_a_day, found.hits, found.trials, found.chance,
        found.sample, off,
    )  # fmt: skip


def _precision(rule: Rule, alpha: float, counts: Counts, limits: Limits, share: float) -> _Question:
    """Of the alerts that were labelled, which is what the review capacity allowed, the share that was fraud."""
    found = _ratio(rule, alpha, counts, "above", limits.label_ratio, share, "false alert", "", "all")
    caught, wrong = counts.row("caught"), counts.row("false alert")
    value = _part(caught.mine, caught.mine + wrong.mine)
    reference = _part(caught.champions, caught.champions + wrong.champions)
    limit = None if reference is None else reference * (1 - limits.precision_drop)
    return _Question(
        rule, alpha, "", "below", value, reference, limit, found.hits, found.trials, found.chance,
        counts.account("caught").both + found.trials, value is not None and limit is not None and value < limit,
    )  # fmt: skip


_SIDES: Final[tuple[Side, Side]] = ("above", "below")


def _both_sides(
    rule: Rule, alpha: float, counts: Counts, ratio: float, share: float, key: str, name: str = "", of: str = "all"
) -> Iterator[_Question]:
    for side in _SIDES:
        yield _ratio(rule, alpha / 2, counts, side, ratio, share, key, name or key, of)


def _ratio(
    rule: Rule, alpha: float, counts: Counts, side: Side, ratio: float, share: float, key: str, name: str, of: str
) -> _Question:
    """Whether a key's accounts are the version's too often, or too seldom, for rates within `ratio` of each other."""
    accounts = counts.account(key)
    value, reference = counts.rate(key, of)
    if side == "above":
        hits, chance = accounts.mine, share_limit(share, ratio)
        limit = None if reference is None else reference * ratio
    else:
        hits, chance = accounts.champions, 1 - share_limit(share, 1 / ratio)
        limit = None if reference is None else reference / ratio
    off = accounts.both > 0 and hits / accounts.both > chance
    return _Question(rule, alpha, name, side, value, reference, limit, hits, accounts.both, chance, accounts.both, off)


def _part(some: int, of: int) -> float | None:
    return some / of if of else None


def _range(place: int) -> str:
    edges = [0.0, *SCORE_EDGES, 1.0]
    low, high = list(pairwise(edges))[place]
    return f"score {low:g} - {high:g}"
