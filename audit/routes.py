"""Which version should have decided, and by which route: from the assignment in force, the account, and who answered.

Where an assignment has arms or shadows, each micro-batch begins with how champion and arms answered. An arm may have
been passed over only where it says there that it failed, and a decision may lack a score only where the champion did.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from plumbline.assignment import Assignment
from plumbline.decision import Decision
from plumbline.journal import Answered, AssignmentApplied, Entry

Told = tuple[str, str, str]
"""What differs: its name, the journaled value, and the one that it should have."""

Versions = tuple[tuple[int, str], ...]
"""Versions, each with the fingerprint of its declaration."""


@dataclass(slots=True)
class Routes:
    """Follows the journal's entries in order; what was in force before the first of them may be given.

    fingerprints: of the assignment's versions, in its order; answered: whether each version of the present micro-batch
    did, None where that is not known; owed: decisions of that micro-batch that are still to come.
    """

    assignment: Assignment | None = None
    fingerprints: tuple[str, ...] = ()
    answered: dict[int, bool] | None = None
    owed: int | None = None
    _in_answers: bool = False
    _named: bool = False

    @property
    def shadows(self) -> Versions:
        """The shadows in force."""
        if self.assignment is None:
            return ()
        first = 1 + len(self.assignment.arms)
        beside = self.fingerprints[first : first + len(self.assignment.shadows)]
        return tuple(zip(self.assignment.shadows, beside, strict=True))

    def take(self, entry: Entry, account_id: str = "", said: Assignment | None = None) -> list[Told]:
        """What the next entry says otherwise than it should.

        account_id: of a decision, from its message; said: the assignment in an entry's message, the entry's own when
        not given.
        """
        if isinstance(entry, Answered) and entry.role != "shadow":
            return self._take_answer(entry)
        self._in_answers = False
        if isinstance(entry, AssignmentApplied):
            told = self._ended()
            said = said or entry.assignment
            if said is not None and not said.may_replace(self.assignment):
                told.append(("replaces", said.replaces, "" if self.assignment is None else self.assignment.version))
            self.assignment, self.fingerprints = said, entry.fingerprints
            self.answered = None
            return told
        return list(self._judged(entry, account_id)) if isinstance(entry, Decision) else []

    def declaration(self, decision: Decision) -> str | None:
        """Fingerprint of the version that should have decided; None where no assignment is in force."""
        if self.assignment is None:
            return None
        version, _ = self.assignment.routed(decision.transaction.account_id)
        if decision.route == "fallback":
            version = self.assignment.decides
        return self.fingerprints[self.assignment.versions.index(version)]

    def _take_answer(self, entry: Answered) -> list[Told]:
        told: list[Told] = []
        if self.answered is None or not self._in_answers:
            told = self._ended()
            self.answered = {}
        self._in_answers = True
        self.answered[entry.version] = not entry.failure
        if entry.role == "champion":
            self.owed = entry.rows
        return told

    def _ended(self) -> list[Told]:
        """What the micro-batch that ends now lacks, or has too much."""
        owed, self.owed = self.owed, None
        return [("decisions asked about", f"{owed} more", "no more")] if owed else []

    def _judged(self, decision: Decision, account_id: str) -> Iterator[Told]:
        if self.owed is not None:
            self.owed -= 1
        if self.assignment is None:
            yield from _unequal(("assignment", decision.assignment, ""), ("route", decision.route, "newest"))
            return
        if not decision.assignment and not self._named:
            return  # journals of releases before routes have none until their last such decision
        self._named = True
        if decision.assignment != self.assignment.version:
            yield "assignment", decision.assignment, self.assignment.version  # the rest follows from it
            return
        version, route = self.assignment.routed(account_id)
        chosen = str(version)
        if self.answered is None or not (self.assignment.arms or self.assignment.shadows):
            if decision.route == "fallback" and route != "champion":
                route, chosen = "fallback", str(self.assignment.decides)
            if not decision.scores:
                chosen = "none"
        else:
            if version not in self.answered:
                yield "answer", "absent", f"version {version}"
            if route != "champion" and not self.answered.get(version, True):
                version, route = self.assignment.decides, "fallback"
            chosen = str(version) if self.answered.get(version, True) else "none"
        scored = str(decision.scores[0].model_version) if decision.scores else "none"
        yield from _unequal(("route", decision.route, route), ("deciding version", scored, chosen))


def _unequal(*pairs: Told) -> Iterator[Told]:
    return (each for each in pairs if each[1] != each[2])
