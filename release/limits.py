"""The declared table of the guardrails: how much of the alarm budget each has, from what on it speaks, and why."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from plumbline.errors import InvalidSetting

Positive = Annotated[float, Meta(gt=0)]
Ratio = Annotated[float, Meta(gt=1)]
Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(gt=0, lt=1)]

Name = Literal["errors", "latency", "slower", "scores", "outcomes", "load", "slices", "precision", "missed"]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a guarded version may do; a JSON object with any of these fields replaces the defaults."""

    alpha: Annotated[
        float,
        Meta(gt=0, le=0.5, description="Probability that a healthy version is ever rolled back, all rules together."),
    ] = 0.01
    window_seconds: Annotated[int, Meta(ge=10, description="Length of a window; the whole run is judged as well.")] = (
        600
    )
    error_share: Annotated[Share, Meta(description="Calls that may fail or miss the deadline.")] = 0.01
    call_ratio: Annotated[
        Ratio,
        Meta(description="Failed or slow calls must be so many times the champion's share, or the server is at fault."),
    ] = 2.0
    latency_ms: Annotated[Positive, Meta(description="99 of 100 calls must be answered within this, milliseconds.")] = (
        250.0
    )
    latency_ratio: Annotated[Ratio, Meta(description="The version's p99 may be so many times the champion's.")] = 3.0
    latency_floor_ms: Annotated[
        Positive, Meta(description="A p99 below this is never too slow against the champion's, milliseconds.")
    ] = 25.0
    psi: Annotated[Positive, Meta(description="Stability index of the scores against the champion's.")] = 0.25
    score_ratio: Annotated[Ratio, Meta(description="A bin of scores may be so many times as frequent, or as rare.")] = (
        1.5
    )
    outcome_ratio: Annotated[
        Ratio, Meta(description="Reviews, and declines, may be so many times as frequent, or as rare.")
    ] = 2.0
    load_ratio: Annotated[
        Ratio, Meta(description="Alerts may be so many times as frequent when they exceed the capacity.")
    ] = 1.25
    reviews_a_day: Annotated[
        Positive, Meta(description="Review capacity: alerts a day, if all payments were the version's.")
    ] = 2000.0
    slice_ratio: Annotated[
        Ratio, Meta(description="Alerts of one slice may be so many times as frequent, or as rare.")
    ] = 2.0
    precision_drop: Annotated[Share, Meta(description="Share of the champion's precision that may be lost.")] = 0.2
    label_ratio: Annotated[
        Ratio, Meta(description="Missed frauds, and false alerts, may be so many times as frequent.")
    ] = 1.5


@dataclass(frozen=True, slots=True)
class Rule:
    """A guardrail's part of the alarm budget, and its samples.

    weight: its part of alpha is weight / sum of weights; least: below this sample it says nothing; enough: from this
    sample on its silence counts as passed (0: a version may pass without it). unit: what the sample counts.
    """

    name: Name
    weight: float
    least: int
    enough: int
    unit: Literal["calls", "decisions", "accounts"]
    why: str


RULES: Final = (
    Rule("errors", 1, 5, 300, "calls", "calls that fail or miss the deadline"),
    Rule("latency", 1, 10, 300, "calls", "p99 of a call against the absolute limit"),
    Rule("slower", 1, 10, 300, "calls", "p99 of a call against the champion's"),
    Rule("scores", 2, 200, 1000, "decisions", "distribution of the scores against the champion's"),
    Rule("outcomes", 2, 15, 15, "accounts", "reviews and declines, each against the champion's"),
    Rule("load", 1, 15, 15, "accounts", "alerts against the review capacity"),
    Rule("slices", 2, 15, 15, "accounts", "alerts by channel, country and amount, against the champion's"),
    Rule("precision", 1, 10, 0, "accounts", "of the alerts that were labelled, how many were fraud"),
    Rule("missed", 2, 10, 0, "accounts", "frauds that were approved, by their labels"),
)
"""Every guardrail, in the order in which they are shown."""

WEIGHTS: Final = sum(rule.weight for rule in RULES)


def alpha_of(rule: Rule, limits: Limits) -> float:
    """A rule's part of the probability of a false alarm."""
    return limits.alpha * rule.weight / WEIGHTS


def read_limits(file: Path | None) -> Limits:
    """The limits in a JSON file, or the defaults without one. Raises InvalidSetting."""
    if file is None:
        return Limits()
    try:
        return msgspec.json.decode(file.read_bytes(), type=Limits)
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidSetting("guard", "--limits", str(file), f"a JSON object of limits ({error})") from error
