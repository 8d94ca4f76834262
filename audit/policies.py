"""Whether a policy's message came into force, judged again from the policy before it."""

from collections.abc import Mapping

from plumbline.errors import Invalid
from plumbline.journal import Entry, Rejected
from plumbline.policy import DEFAULT_POLICY, FIRST_POLICY, Policy, require_own_version, require_replaced


def refusal(given: Policy, active: Policy | None, known: Mapping[str, str], entry: Entry | None) -> str:
    """Why a policy is refused; empty where it becomes the active one.

    active: None where the audit began behind it and cannot know it; known: `content_digest` of earlier ones by version,
    incomplete where the first policy of all is not among them. What cannot be known, the journal's own word decides.
    """
    begun = {DEFAULT_POLICY.version, FIRST_POLICY.version} & set(known)
    if (active is None or not begun) and isinstance(entry, Rejected):
        return entry.error
    try:
        require_replaced(given, active)
        if isinstance(entry, Rejected):  # older releases accepted a version again, with other contents
            require_own_version(given, known)
    except Invalid as error:
        return str(error)
    return ""
