"""Whether a policy's message came into force, judged again from the policy before it."""

from plumbline.errors import Invalid
from plumbline.journal import Entry, Rejected
from plumbline.policy import Policy, require_replaced


def refusal(given: Policy, in_force: Policy | None, entry: Entry | None) -> str:
    """Why a policy is refused; empty where it comes into force.

    in_force: None where the audit began behind it and cannot know it; then the journal's own word is taken.
    """
    if in_force is None and isinstance(entry, Rejected):
        return entry.error
    try:
        require_replaced(given, in_force)
    except Invalid as error:
        return str(error)
    return ""
