"""Decisions on the new transactions of a micro-batch: scores by route, the policy's outcome, and why."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from plumbline.decision import NOT_EXPLAINED, Decision, DeclaredHistory, Outcome, Reason, Score, Source
from plumbline.journal import Answered
from plumbline.policy import Judged, decide
from plumbline.transaction import Transaction
from serving.client import TRIES
from serving.columns import ModelColumns
from streaming.model import Model
from streaming.routing import Group, routed
from streaming.state import State

REASONS_MOST: Final = 5
"""Features named with an alert: the strongest of those that raised the score."""

Features = tuple[Reason, ...]
Row = tuple[Score | None, Judged]
"""A row's score, and what the policy makes of it."""


def decisions(
    state: State,
    model: Model,
    new: Sequence[tuple[Transaction, Source]],
    columns: Mapping[str, ModelColumns],
    now_us: int,
) -> tuple[list[Decision], list[Answered]]:
    """Decisions on n new transactions in their order, and how the versions asked have answered.

    columns: inputs of the n, by declaration.
    """
    if state.policy is None:
        raise AssertionError("a leader journals a policy before its first decision")
    groups, answered = routed(state, model, [each.account_id for each, _ in new], columns, now_us)
    judged: list[list[Row]] = []
    for group in groups:
        given: list[Score | None] = [None] * len(group.rows)
        if group.scored is not None:
            given = [Score(group.scored.model_version, value) for value in group.scored.values.tolist()]
        judged.append(
            [(score, decide(new[row][0], score, state.policy)) for row, score in zip(group.rows, given, strict=True)]
        )
    explained = _explained(state, model, groups, judged, columns)
    pasts = {fingerprint: each.history.tolist() for fingerprint, each in columns.items()}
    assignment = "" if state.assignment is None else state.assignment.version
    found: list[Decision | None] = [None] * len(new)
    for group, rows, reasons in zip(groups, judged, explained, strict=True):
        own, others = pasts[group.fingerprint], [name for name in columns if name != group.fingerprint]
        for place, (n, (score, (outcome, rules, sampled))) in enumerate(zip(group.rows, rows, strict=True)):
            transaction, source = new[n]
            found[n] = made = Decision(
                transaction=transaction,
                source=source,
                history=tuple(own[n]),
                fingerprint=group.fingerprint,
                scores=() if score is None else (score,),
                policy_version=state.policy.version,
                outcome=outcome,
                reasons=rules + reasons.get(place, ()),
                decided_at=now_us,
                other_histories=tuple([DeclaredHistory(name, tuple(pasts[name][n])) for name in others]),
                assignment=assignment,
                route=group.route,
                sample_per_mille=sampled,
            )
            state.note_unassigned(made)
    return [each for each in found if each is not None], answered


def _explained(
    state: State,
    model: Model,
    groups: Sequence[Group],
    judged: Sequence[Sequence[Row]],
    columns: Mapping[str, ModelColumns],
) -> list[dict[int, Features]]:
    """The features that raised each alert's score most, by its place in its group, as the version that decided says.

    A fault stands in their place where it does not say.
    """
    asked: list[tuple[ModelColumns, int, int]] = []
    names: list[Sequence[str]] = []
    where: list[tuple[int, list[int]]] = []
    for at, (group, rows) in enumerate(zip(groups, judged, strict=True)):
        alerting = [n for n, (_, ruled) in enumerate(rows) if ruled.outcome is not Outcome.APPROVE]
        if group.scored is not None and alerting:
            inputs = columns[group.fingerprint].take(np.array([group.rows[n] for n in alerting]))
            names.append(state.histories[group.fingerprint].declaration.feature_names)
            asked.append((inputs, group.scored.model_version, len(names[-1])))
            where.append((at, alerting))
    found: list[dict[int, Features]] = [{} for _ in groups]
    effects = model.explain(asked, tries=1 if state.arms else TRIES)
    for (at, alerting), each, called in zip(where, effects, names, strict=True):
        told = [(NOT_EXPLAINED,)] * len(alerting) if each is None else strongest(each, called)
        found[at].update(zip(alerting, told, strict=True))
    return found


def strongest(effects: npt.NDArray[np.float32], names: Sequence[str]) -> list[Features]:
    """The features that raised each row's score most, strongest first, of effects [n, features]."""
    first = np.argsort(-effects, axis=1, kind="stable")[:, :REASONS_MOST]
    return [
        tuple(Reason("feature", names[n], float(row[n])) for n in best if row[n] > 0)
        for row, best in zip(effects, first.tolist(), strict=True)
    ]
