"""Which version decides each row of a micro-batch: the champion, the arm that the account was dealt to, or the first.

Before the first assignment of all the version that was met first scores, and no newer one takes its place.

The champion is asked about every row, at the same time as the arms about theirs. So where an arm fails, its rows have
the champion's score at once, and nobody is asked one after another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from plumbline.assignment import Assignment, Route
from plumbline.journal import Answered
from serving.client import Scored
from serving.columns import ModelColumns
from streaming.model import Answer, Model, Question
from streaming.state import State

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Group:
    """The rows that one version decides: why, under which declaration, which rows (k of n), and its scores of them.

    scored: None where the version did not answer; then nobody did for these rows.
    """

    route: Route
    fingerprint: str
    rows: Sequence[int]
    scored: Scored | None


def routed(
    state: State, model: Model, accounts: Sequence[str], columns: Mapping[str, ModelColumns], now_us: int
) -> tuple[list[Group], list[Answered]]:
    """Groups that hold each of n rows once, and how each version answered, as entries to journal.

    accounts: of the rows; columns: their inputs by declaration.
    """
    assignment, deciding = state.assignment, state.deciding
    if assignment is None:
        answer = model.ask(Question(columns[deciding], deciding, state.unassigned))
        if state.unassigned is None and answer.scored is not None:
            log.warning(
                "a version scores that nobody promoted: every payment goes to review until thresholds come with a "
                "promotion or an assignment",
                model_version=answer.scored.model_version,
            )
        return [Group("newest", deciding, range(len(accounts)), answer.scored)], []
    dealt: dict[int, list[int]] = {}
    if assignment.arms:
        for row, account in enumerate(accounts):
            dealt.setdefault(assignment.routed(account)[0], []).append(row)
    else:
        dealt[assignment.decides] = list(range(len(accounts)))
    champion = Question(columns[deciding], deciding, assignment.decides)
    arms = [(version, fingerprint, dealt[version]) for version, fingerprint in state.arms if version in dealt]
    answers = model.ask_together(
        champion,
        [
            Question(columns[fingerprint].take(np.array(rows)), fingerprint, version)
            for version, fingerprint, rows in arms
        ],
    )
    scored = answers[0].scored
    own = dealt.get(assignment.decides, [])
    groups = [Group("champion", deciding, own, _taken(scored, own))] if own else []
    for (_, fingerprint, rows), answer in zip(arms, answers[1:], strict=True):
        if answer.scored is not None:
            groups.append(Group(assignment.kind, fingerprint, rows, answer.scored))
        else:
            groups.append(Group("fallback", deciding, rows, _taken(scored, rows)))
    asked = [(assignment.decides, len(accounts)), *((version, len(rows)) for version, _, rows in arms)]
    return groups, _answered(assignment, asked, answers, now_us)


def _taken(scored: Scored | None, rows: Sequence[int]) -> Scored | None:
    if scored is None or len(rows) == len(scored.values):
        return scored
    return Scored(scored.values[np.array(rows)], scored.model_version)


def _answered(
    assignment: Assignment, asked: Sequence[tuple[int, int]], answers: Sequence[Answer], now_us: int
) -> list[Answered]:
    """How champion and arms answered; asked: versions and how many rows of each, the champion first."""
    if not assignment.arms and not assignment.shadows:
        return []
    return [
        Answered(
            version=version, role=assignment.kind if n else "champion", rows=rows, failure=answer.failure,
            micros=answer.micros, journaled_at=now_us,
        )
        for n, ((version, rows), answer) in enumerate(zip(asked, answers, strict=True))
    ]  # fmt: skip
