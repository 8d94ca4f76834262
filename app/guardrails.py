"""Guardrails as people see them: a rule's words, its figures with their units, and a picture of one over time.

A picture is plain SVG from the server, so that it needs no script, and every number of it stands in a table as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flask_babel import gettext

from app.codes import channel_words, country_words, outcome_words
from app.languages import money_words, number, percent

WIDTH: Final = 240.0
HEIGHT: Final = 64.0
PERCENT: Final = ("errors", "outcomes", "slices", "precision", "missed")
MILLISECONDS: Final = ("latency", "slower")
AMOUNT_EDGES: Final = (500, 2_000, 10_000, 50_000)
"""As `release.counts` has them, which a console without the model's packages cannot import."""

Point = Sequence[float | None]
"""[seconds since 1970 UTC, the version's figure, the champion's, the limit, part of the evidence needed]."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Lines in a picture of 240 × 64 as SVG points, and what is as high as the picture."""

    mine: str
    champion: str
    limit: str
    evidence: str
    highest: float


def picture(points: Sequence[Point]) -> Picture:
    """The lines of a figure over time: the version's, the champion's, the limit, and the evidence on its own scale."""
    times = [float(each[0] or 0) for each in points] or [0.0]
    first, span = times[0], max(times[-1] - times[0], 1e-9)
    highest = max((each[place] or 0.0 for each in points for place in (1, 2, 3)), default=0.0) or 1.0

    def line(place: int, top: float) -> str:
        return " ".join(
            f"{WIDTH * (at - first) / span:.2f},{HEIGHT * (1 - min((each[place] or 0.0) / top, 1)):.2f}"
            for at, each in zip(times, points, strict=False)
            if each[place] is not None
        )

    return Picture(line(1, highest), line(2, highest), line(3, highest), line(4, 1.0), highest)


def thinned(points: Sequence[Point], most: int = 12) -> list[Point]:
    """About so many of the points for a table, evenly, the newest always."""
    step = max(1, -(-len(points) // most))
    return list(points[::-1][::step][::-1])


def rule_words(rule: str) -> str:
    """What a rule looks at; its own name where it is unknown here."""
    words = {
        "errors": gettext("Failed calls"),
        "latency": gettext("Slow calls (p99)"),
        "slower": gettext("Slower than the champion (p99)"),
        "scores": gettext("Distribution of scores (PSI)"),
        "outcomes": gettext("Rate of an outcome"),
        "load": gettext("Alerts a day"),
        "slices": gettext("Alerts of one slice"),
        "precision": gettext("Precision of labelled alerts"),
        "missed": gettext("Frauds that were approved"),
    }
    return str(words.get(rule, rule))


def slice_words(name: str) -> str:
    """Which payments a figure is of; empty for all of them."""
    kind, _, value = name.partition(" ")
    if kind == "channel":
        return channel_words(value)
    if kind == "country":
        return str(gettext("other countries")) if value == "others" else country_words(value)
    if kind == "amount":
        return _band(int(value))
    if kind == "score":
        return str(gettext("scores %(range)s", range=value.replace(" - ", " – ")))
    return outcome_words(name) if name else ""


def _band(place: int) -> str:
    edges = [money_words(edge, "XXX") for edge in AMOUNT_EDGES]
    if place == 0:
        return str(gettext("amounts below %(high)s", high=edges[0]))
    if place == len(edges):
        return str(gettext("amounts from %(low)s", low=edges[-1]))
    return str(gettext("amounts from %(low)s to %(high)s", low=edges[place - 1], high=edges[place]))


def value_words(rule: str, value: float | None) -> str:
    """A rule's figure with its unit."""
    if value is None:
        return "–"
    if rule in PERCENT:
        return percent(value)
    if rule in MILLISECONDS:
        return f"{number(value, 0)} ms"
    return number(value, 0 if rule == "load" else 3)


def limit_words(figure: Mapping[str, Any]) -> str:
    """What a figure may be."""
    shown = value_words(figure["rule"], figure["limit"])
    below = figure["side"] == "below" and figure["rule"] != "scores"
    return str(gettext("at least %(limit)s", limit=shown) if below else gettext("at most %(limit)s", limit=shown))


def state_words(state: str) -> str:
    """What became of a trial so far."""
    words = {
        "watching": gettext("Being judged"),
        "passed": gettext("Passed"),
        "breached": gettext("Rolled back"),
        "ended": gettext("Ended before it passed"),
    }
    return str(words.get(state, state))


def role_words(role: str) -> str:
    """What a version was under guard as."""
    words = {"canary": gettext("Canary"), "experiment": gettext("Arm of an experiment"), "shadow": gettext("Shadow")}
    return str(words.get(role, role))
