"""What may stand on the `control` topic: a policy, or an assignment of model versions."""

import msgspec

from plumbline import assignment, policy
from plumbline.assignment import Assignment
from plumbline.errors import InvalidControl
from plumbline.policy import Policy

Control = Policy | Assignment


class _Tagged(msgspec.Struct):
    type: str = "policy"


def parse(raw: bytes, *, patterns: bool = False) -> Control:
    """The Policy or Assignment in a control message's bytes; its field `type` says which.

    Raises InvalidControl, which names the field, its value and what was allowed.
    """
    try:
        kind = msgspec.json.decode(raw, type=_Tagged).type
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        kind = "policy"  # whose parser says what is wrong with the bytes
    match kind:
        case "policy":
            return policy.parse(raw, patterns=patterns)
        case "assignment":
            return assignment.parse(raw)
        case _:
            raise InvalidControl("control", "type", kind, "policy or assignment")
