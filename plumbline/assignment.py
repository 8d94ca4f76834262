"""Which model versions answer: one decides, others may score beside it without a say.

An assignment is a message on the `control` topic, as a policy is. Without one the newest version that is served
decides. A model version that was trained under another feature declaration than the one in force can only come in by an
assignment, since its history has to be prepared first.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from plumbline.errors import InvalidControl
from plumbline.refusal import decoded
from plumbline.transaction import Id

ModelNumber = Annotated[int, Meta(ge=1, le=2**53 - 1, description="A model version's number.")]

ASSIGNMENT_MAX_BYTES: Final = 4096


class Assignment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="assignment"):
    """The version that decides from the next decision on, and those that are journaled beside it."""

    version: Id
    decides: ModelNumber
    shadows: Annotated[tuple[ModelNumber, ...], Meta(max_length=4)] = ()

    def __post_init__(self) -> None:
        if len({self.decides, *self.shadows}) != 1 + len(self.shadows):
            raise ValueError(f"shadows are {list(self.shadows)} beside {self.decides}: expected each version once")

    @property
    def versions(self) -> tuple[int, ...]:
        """Every version named, the deciding one first."""
        return (self.decides, *self.shadows)


_decoder = msgspec.json.Decoder(Assignment)


def parse(raw: bytes) -> Assignment:
    """The Assignment in a control message's bytes.

    raw: UTF-8 JSON object of at most 4,096 bytes, with `"type": "assignment"`.
    Raises InvalidControl, which names the field, its value and what was allowed.
    """
    return decoded(InvalidControl, "assignment", Assignment, _decoder, raw, ASSIGNMENT_MAX_BYTES)
