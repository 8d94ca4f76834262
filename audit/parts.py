"""Decisions some at a time, so that each part has one set of declarations, and one version's declaration decides."""

from collections.abc import Iterator, Sequence
from typing import Final

from audit.intake import Judged
from plumbline.decision import Decision
from plumbline.journal import AssignmentApplied
from plumbline.policy import Policy

COMPARED_ROWS: Final = 4096
"""Decisions that are compared at a time: a batch of another size than any scorer's."""


def in_parts(judged: Sequence[Judged], chosen: Sequence[Judged], policies: dict[str, Policy]) -> Iterator[list[Judged]]:
    """The chosen decisions, some at a time; while each part is looked at, `policies` are those journaled by then."""
    wanted = {id(each) for each in chosen}
    part: list[Judged] = []
    for each in judged:
        changes = isinstance(each.body, Policy) or isinstance(each.entry, AssignmentApplied)
        if part and (changes or len(part) == COMPARED_ROWS):
            yield part
            part = []
        if isinstance(each.body, Policy):
            policies[each.body.version] = each.body
        elif isinstance(each.entry, Decision) and id(each) in wanted:
            part.append(each)
    if part:
        yield part


def by_deciding(part: Sequence[Judged]) -> list[list[Judged]]:
    """Decisions apart by the declaration of the version that should have decided."""
    found: dict[str, list[Judged]] = {}
    for each in part:
        found.setdefault(each.in_force[0] if each.in_force else "", []).append(each)
    return list(found.values())
