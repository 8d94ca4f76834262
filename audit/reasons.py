"""An alert's reasons that name features, against the effects that the version which decided gives again.

Only alerts are explained, so only they cost anything here. That an explanation did not come cannot be computed again:
a record that says so must name no feature, and is otherwise believed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from audit.bits import bits, distance_ulps
from plumbline.decision import NOT_EXPLAINED, Decision, Outcome, Reason

NONE: Final = "none"

Reasons = tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """One reason as it was journaled and as it was computed again: a feature's effect, or the order of them all.

    distance_ulps: between two effects; None where there are not two, or one is no float32.
    """

    name: str
    journaled: str
    recomputed: str
    distance_ulps: int | None = None

    @property
    def equal(self) -> bool:
        """Whether both are the same."""
        return self.journaled == self.recomputed


def to_explain(decision: Decision) -> bool:
    """Whether a decision holds an explanation of the version that decided: of an alert that was scored."""
    return bool(decision.scores) and decision.outcome is not Outcome.APPROVE and NOT_EXPLAINED not in decision.reasons


def without_features(decision: Decision) -> list[str]:
    """Codes of the rules and faults among a decision's reasons that the policy alone leads to."""
    return [each.code for each in decision.reasons if each.kind != "feature" and each != NOT_EXPLAINED]


def compared(decisions: Sequence[Decision], recomputed: Mapping[int, Reasons]) -> dict[int, list[Told]]:
    """Reasons of decisions by row, where there are any to compare.

    recomputed: the reasons of every row `to_explain` whose version could be asked. A row that is none has no features.
    """
    found = {}
    for row, decision in enumerate(decisions):
        if to_explain(decision):
            if row in recomputed:
                found[row] = told(decision, recomputed[row])
        elif decision.outcome is not Outcome.APPROVE or _features(decision) or NOT_EXPLAINED in decision.reasons:
            found[row] = [*told(decision, ()), *_fault(decision)]
    return found


def told(decision: Decision, recomputed: Reasons) -> list[Told]:
    """Every feature that the decision or the recomputation names; their order too, where it alone differs."""
    journaled = _features(decision)
    was = {each.code: each.effect for each in journaled}
    now = {each.code: each.effect for each in recomputed}
    found = [_effects(code, was.get(code), now.get(code)) for code in dict.fromkeys([*was, *now])]
    order, ours = (", ".join(each.code for each in reasons) for reasons in (journaled, recomputed))
    if order != ours and was.keys() == now.keys():
        found.append(Told("order", order, ours))
    return found


def _features(decision: Decision) -> Reasons:
    return tuple(each for each in decision.reasons if each.kind == "feature")


def _fault(decision: Decision) -> list[Told]:
    """That no explanation came can only be said of an alert that was scored."""
    if NOT_EXPLAINED not in decision.reasons or (decision.scores and decision.outcome is not Outcome.APPROVE):
        return []
    return [Told(NOT_EXPLAINED.code, "present", "nothing was to be explained")]


def _effects(code: str, was: float | None, now: float | None) -> Told:
    distance = distance_ulps(was, now) if was is not None and now is not None else None
    return Told(code, _shown(was), _shown(now), distance)


def _shown(effect: float | None) -> str:
    if effect is None:
        return NONE
    single = np.float32(effect)
    return bits(single if float(single) == effect else np.float64(effect))
