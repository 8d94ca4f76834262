"""When an experiment is over: a pure function of its arms' counts, which may be asked after every label.

What is counted are accounts, each once: those of which a fraud was caught, was missed, or a genuine payment was
alerted. An account is dealt to an arm by a hash, so under equal rates the next one is the arm's with the arm's share of
the accounts, and the same tests as the guardrails' hold. The budget is shared by all arms and all questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from release.sequential import log_evidence, needed, share_limit

Verdict = Literal["continue", "harm", "winner"]

HARM_RATIO: Final = 1.25
"""Missed frauds, or false alerts, may be so many times as frequent in an arm as with the champion."""

QUESTIONS: Final = 4


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """Accounts of one side of an experiment; per_mille: of all accounts, those dealt to it."""

    version: int
    per_mille: int
    caught: int = 0
    missed: int = 0
    false_alerts: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """What to do: go on, stop for harm by `version`, or take `version` as the winner.

    because: which count says so, empty where it goes on; evidence, needed: natural logarithms, of the question that
    comes closest.
    """

    verdict: Verdict
    version: int | None
    because: str
    evidence: float
    needed: float


def judge_experiment(champion: ArmCounts, arms: Sequence[ArmCounts], alpha: float = 0.05) -> Stop:
    """Continue, stop for harm, or a winner, with the evidence; alpha: probability of any wrong stop, ever.

    Harm comes first: an arm that misses more frauds, or alerts more genuine accounts, than HARM_RATIO allows. A winner
    catches the frauds of more accounts than its share, or the champion does so against every arm.
    Raises ValueError when an arm or the champion has no accounts.
    """
    if not arms or min(each.per_mille for each in (champion, *arms)) < 1:
        raise ValueError("an experiment needs a champion and at least one arm, each with accounts")
    wanted = needed(alpha / (QUESTIONS * len(arms)))
    harms = [(_above(champion, arm, count, HARM_RATIO), arm.version, f"more {count.replace('_', ' ')}")
             for arm in arms for count in ("missed", "false_alerts")]  # fmt: skip
    wins = [(_above(champion, arm, "caught", 1.0), arm.version, "more caught") for arm in arms]
    losses = [_above(arm, champion, "caught", 1.0) for arm in arms]
    wins.append((min(losses), champion.version, "more caught than every arm"))
    for verdict, found in (("harm", harms), ("winner", wins)):
        evidence, version, because = max(found)
        if evidence >= wanted:
            return Stop(verdict, version, because, evidence, wanted)  # type: ignore[arg-type] # both are verdicts
    evidence, _, _ = max(harms + wins)
    return Stop("continue", None, "", evidence, wanted)


def _above(one: ArmCounts, other: ArmCounts, count: str, ratio: float) -> float:
    """Evidence that `other` has a count more often than `ratio` times `one`'s rate."""
    hits, rest = getattr(other, count), getattr(one, count)
    share = other.per_mille / (one.per_mille + other.per_mille)
    return float(log_evidence(hits, hits + rest, share_limit(share, ratio)))
