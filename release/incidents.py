"""The picture of what happened: each rule's figure over time, thinned as it grows, and what SQL keeps of it."""

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from plumbline.transaction import SECOND_US
from release.guardrails import Figure, closest, passed
from release.limits import Limits
from release.windows import Fold, Span
from release.windows import Trial as Watched
from store.guard_tables import Incident, Trial

POINTS_MOST: Final = 120
LOOK_US: Final = SECOND_US
LOOKS: Final = 400
"""A look a second at first, later one for so many parts of the time passed, so that looks stay few."""

Key = tuple[int, str, str, str]
"""Span's number (0 the run, 1 any window), rule, slice, side."""


def next_look(began_us: int, now_us: int) -> int:
    """When to look again, in the journal's time, after a look at `now_us`."""
    return now_us + max(LOOK_US, (now_us - began_us) // LOOKS)


@dataclass(slots=True)
class Series:
    """The figures of a trial at each look, in the journal's time."""

    points: dict[Key, list[list[float | None]]] = field(default_factory=dict)
    every: dict[Key, int] = field(default_factory=dict)
    looks: int = 0

    def add(self, now_us: int, figures: list[tuple[Span, Figure]]) -> None:
        """One look. A series that has become long loses every second point, and takes every second one from then on."""
        self.looks += 1
        for span, each in figures:
            key = key_of(span, each)
            if self.looks % self.every.setdefault(key, 1):
                continue
            points = self.points.setdefault(key, [])
            points.append(point(now_us, each))
            if len(points) > POINTS_MOST:
                del points[1::2]
                self.every[key] *= 2


def key_of(span: Span, each: Figure) -> Key:
    """Where a figure's series is kept."""
    return (min(span.number, 1), each.rule, each.slice, each.side)


def point(now_us: int, each: Figure) -> list[float | None]:
    """[seconds since 1970 UTC, the version's figure, the champion's, the limit, part of the evidence needed]."""
    return [now_us / SECOND_US, each.value, each.reference, each.limit, each.part]


def trial_row(fold: Fold, trial: Watched, figures: list[tuple[Span, Figure]], state: str, now_us: int) -> Trial:
    """A trial as SQL keeps it; state: `watching` or `breached`, which becomes `passed` where every rule was silent."""
    run = [each for span, each in figures if span.number == 0]
    has_passed = state == "watching" and passed(run) and not any(each.breached for _, each in figures)
    shown = closest(run)
    per_mille = next((arm.per_mille for arm in fold.assignment.arms if arm.version == trial.version), 0)
    return Trial(
        sequence=fold.sequence, version=trial.version, assignment=fold.assignment.version,
        champion=fold.assignment.decides, role=trial.role, per_mille=per_mille,
        state="passed" if has_passed else state, began_at=fold.began_us, passed_at=now_us if has_passed else None,
        decisions=fold.decisions, alpha=fold.limits.alpha, spent=trial.spent, figures=[facts(each) for each in shown],
    )  # fmt: skip


def facts(each: Figure) -> dict[str, Any]:
    """A figure as JSON: its fields, and whether it is breached and how far its evidence has come."""
    return asdict(each) | {"breached": each.breached, "part": each.part}


def incident_row(
    fold: Fold, trial: Watched, span: Span, figure: Figure, series: Series, last_sequence: int, now_us: int
) -> Incident:
    """An incident before anything was done about it, with its picture; now_us: our clock."""
    points = [*series.points.get(key_of(span, figure), []), point(fold.now_us, figure)]
    others = [facts(each) for each in closest(_of(trial, fold.limits, fold.now_us))]
    return Incident(
        sequence=fold.sequence, version=trial.version, champion=fold.assignment.decides,
        assignment=fold.assignment.version, role=trial.role, rule=figure.rule, slice=figure.slice, opened_at=now_us,
        last_sequence=last_sequence,
        picture={
            "span": "window" if span.number else "run", "began_at": span.began_us, "decisions": fold.decisions,
            "figure": facts(figure), "points": points, "rules": others,
        },
        rollback="", why="", note="",
    )  # fmt: skip


def _of(trial: Watched, limits: Limits, now_us: int) -> list[Figure]:
    return [each for span, each in trial.figures(limits, now_us) if span.number == 0]
