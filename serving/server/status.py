"""How a request can fail, in the codes and the texts that TensorFlow Serving's clients know.

The texts are part of the protocol: programs match on them. Transports turn the code into their own.
"""

import enum
from collections.abc import Iterable
from typing import Final

from plumbline.errors import PlumblineError


@enum.unique
class Code(enum.IntEnum):
    """The canonical codes, numbered as gRPC and TensorFlow number them."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class StatusError(PlumblineError):
    """A request that gets no answer but this code and message."""

    def __init__(self, code: Code, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


MISSING_SPEC: Final = "Missing ModelSpec"
MISSING_NAME: Final = "ModelSpec has no name specified."
UNSUPPORTED_CONFIG: Final = (
    "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
)
NO_FIELDS: Final = "GetModelMetadataRequest must specify at least one metadata_field"


def invalid(message: str) -> StatusError:
    """An INVALID_ARGUMENT error."""
    return StatusError(Code.INVALID_ARGUMENT, message)


def listed(names: Iterable[str]) -> str:
    """Names as the protocol's texts list them.

    >>> listed({"b", "a"})
    '{a,b}'
    """
    return "{" + ",".join(sorted(names)) + "}"
