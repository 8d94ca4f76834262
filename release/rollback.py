"""What undoes a release: the assignment that takes faulty versions out, and why, in words and figures."""

import math
from collections.abc import Collection
from typing import Final

from plumbline.assignment import Assignment
from release.guardrails import Figure

WHY_MOST: Final = 500
PERCENT: Final = ("errors", "outcomes", "slices", "precision", "missed")


def rollback_name(sequence: int) -> str:
    """The name of the assignment that undoes the one journaled under a sequence number."""
    return f"rollback-{sequence}"


def undone(judged: Assignment, sequence: int, faulty: Collection[int], why: str) -> Assignment:
    """The champion without what is faulty: no arm when one of them is, and the other shadows.

    It is refused unless the judged assignment is still in force, so whatever people assigned meanwhile stands.
    """
    arms_go = any(arm.version in faulty for arm in judged.arms)
    return Assignment(
        version=rollback_name(sequence),
        decides=judged.decides,
        arms=() if arms_go else judged.arms,
        kind=judged.kind,
        salt=judged.salt,
        shadows=tuple(each for each in judged.shadows if each not in faulty),
        why=why[:WHY_MOST],
        replaces=judged.version,
        ready=judged.ready,
    )


def told(version: int, role: str, figure: Figure) -> str:
    """One sentence: which version, which rule, its figure, the champion's and the limit, and how sure it is."""
    about = f"{figure.rule} of {figure.slice}" if figure.slice else figure.rule
    against = "" if figure.reference is None else f" against the champion's {_number(figure, figure.reference)}"
    wanted = "at most" if figure.side == "above" or figure.rule == "scores" else "at least"
    limit = "" if figure.limit is None else f", allowed {wanted} {_number(figure, figure.limit)}"
    sure = f"evidence {_odds(figure.evidence)} to 1, needed {_odds(figure.needed)}"
    return (
        f"{role} {version} is rolled back by the guard: {about} {_number(figure, figure.value)}{against}{limit}; "
        f"{figure.hits} of {figure.trials}, {sure}"
    )


def _number(figure: Figure, value: float | None) -> str:
    if value is None:
        return "unknown"
    if figure.rule in PERCENT:
        return f"{value:.2%}"
    return f"{value:.0f} ms" if figure.rule in ("latency", "slower") else f"{value:,.4g}"


def _odds(logarithm: float) -> str:
    return f"{math.exp(min(logarithm, 30.0)):,.0f}"
