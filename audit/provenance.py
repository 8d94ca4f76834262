"""Where the active policy and assignment came from: the journal's one beginning, or a control message.

A scorer that starts on an empty journal writes the first policy and its declaration, which no message brought. Anything
later that changes what is active without a message was not ordered by anybody.
"""

from typing import Final

import msgspec

from plumbline.journal import AssignmentApplied, ControlApplied, Entry

CHANGES: Final = ("control", "assignment")
"""Tags of the entries that change what is active."""


class Provenance(msgspec.Struct):
    """Follows the journal's entries in order.

    policy: the active one's version, None before the journal's first; assignment: the active one's, empty without one;
    declared: whether the first declaration was journaled; answered: whether any message has an entry.
    """

    policy: str | None = None
    assignment: str = ""
    declared: bool = False
    answered: bool = False

    def take(self, kind: str, name: str, *, from_message: bool) -> str:
        """Why an entry may not be where it is; empty where it may.

        kind: the entry's tag; name: the version of its policy or assignment, empty where it names none.
        What an entry that may not be there says is not active afterwards.
        """
        if from_message:
            return self._from_message(kind, name)
        if kind == "control":
            if self.policy is not None or self.answered:
                return f"policy {name} became active without a message after the journal had begun"
            self.policy = name
        elif kind == "assignment" and name:
            # The first model that a journal knows may become active by itself; a change needs a message.
            if self.assignment:
                return f"assignment {name} became active without a message in place of {self.assignment}"
            self.assignment = name
        elif kind == "assignment":
            if self.declared or self.answered:
                return "the journal's first declaration was journaled again"
            self.declared = True
        return ""

    def _from_message(self, kind: str, name: str) -> str:
        began, self.answered = self.answered, True
        if kind == "control":
            before, self.policy = self.policy, name
        else:
            before = self.policy
            if kind == "assignment":
                self.assignment = name
        return "" if began or before is not None else "a message was answered before the journal had a first policy"

    def is_active(self, policy: str, assignment: str) -> bool:
        """Whether a decision was made under what is active; decisions of older releases name no assignment."""
        return policy == self.policy and assignment in ("", self.assignment)


def named(entry: Entry) -> str:
    """The version of the policy or assignment that an entry makes active; empty where it names none."""
    if isinstance(entry, ControlApplied):
        return entry.policy.version
    if isinstance(entry, AssignmentApplied) and entry.assignment is not None:
        return entry.assignment.version
    return ""


def tag(entry: Entry) -> str:
    """The entry's tag in the journal."""
    return str(entry.__struct_config__.tag)
