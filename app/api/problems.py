"""What went wrong, as callers are told: one table for both transports, and RFC 9457's problem documents for HTTP."""

from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from app.api.answer import Answer
from app.api.rates import RETRY_SECONDS
from plumbline.errors import (
    Busy,
    Invalid,
    KeyRefused,
    NotTaken,
    PlumblineError,
    RateExceeded,
    Retryable,
    ScopeMissing,
    TransactionChanged,
    TransactionNotFound,
    TransactionRejected,
    shown,
)

MEDIA_TYPE: Final = "application/problem+json"
_PREFIX: Final = "urn:plumbline:problem:"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem: its name, its HTTP status, its gRPC status, and its title."""

    name: str
    status: int
    grpc: str
    title: str
    retry_after_seconds: int | None = None


INVALID: Final = Kind("invalid", 400, "INVALID_ARGUMENT", "Not valid: nothing was written")
NOT_FOUND: Final = Kind("not-found", 404, "NOT_FOUND", "Not found")
METHOD: Final = Kind("method-not-allowed", 405, "UNIMPLEMENTED", "This method is not allowed here")
TOO_LARGE: Final = Kind("too-large", 413, "INVALID_ARGUMENT", "Too large: nothing was written")
MEDIA: Final = Kind("unsupported-media-type", 415, "INVALID_ARGUMENT", "Not JSON: nothing was written")
FAULT: Final = Kind("fault", 500, "INTERNAL", "A fault of ours")

KINDS: Final[tuple[tuple[type[PlumblineError], Kind], ...]] = (
    (Invalid, INVALID),
    (KeyRefused, Kind("key-refused", 401, "UNAUTHENTICATED", "No API key that is known")),
    (ScopeMissing, Kind("scope-missing", 403, "PERMISSION_DENIED", "The API key lacks a scope")),
    (TransactionNotFound, NOT_FOUND),
    (TransactionChanged, Kind("transaction-changed", 409, "ALREADY_EXISTS", "This id came before with another body")),
    (TransactionRejected, Kind("rejected", 422, "FAILED_PRECONDITION", "The scorer did not accept it")),
    (
        RateExceeded,
        Kind("rate-exceeded", 429, "RESOURCE_EXHAUSTED", "Used too often: nothing was written", RETRY_SECONDS),
    ),
    (NotTaken, Kind("not-taken", 503, "UNAVAILABLE", "Kafka did not take the transaction", 1)),
    (Busy, Kind("busy", 503, "UNAVAILABLE", "Too many callers wait: nothing was written", 1)),
    (Retryable, Kind("unavailable", 503, "UNAVAILABLE", "A part of Plumbline cannot be reached", 1)),
)
"""The first that an error is an instance of says what its callers are told."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document; `field`, `value` and `allowed` say what is wrong with the input, `first` what was decided."""

    type: Annotated[str, Meta(description="A URN that names the kind of problem; it does not change.")]
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: Annotated[str, Meta(description="What happened this time, and what to do.")]
    field: str = ""
    value: str = ""
    allowed: str = ""
    first: Annotated[Answer, Meta(description="The answer to the body that came first.")] | None = None


def kind_of(error: Exception) -> Kind:
    """Which kind of problem an error is; FAULT where it was not raised on purpose."""
    return next((kind for raised, kind in KINDS if isinstance(error, raised)), FAULT)


def problem(kind: Kind, detail: str, **more: Any) -> Problem:
    """A problem document."""
    return Problem(type=_PREFIX + kind.name, title=kind.title, status=kind.status, detail=detail, **more)


def problem_of(error: Exception) -> tuple[Kind, Problem]:
    """The kind of an error, and its document; of a fault of ours a caller learns only that it is one."""
    kind = kind_of(error)
    if kind is FAULT:
        return kind, problem(kind, "the log says what happened; try again, the same id is decided once")
    if isinstance(error, Invalid):
        return kind, problem(kind, str(error), field=error.field, value=shown(error.value), allowed=error.allowed)
    if isinstance(error, TransactionChanged):
        return kind, problem(kind, str(error), first=error.first)
    return kind, problem(kind, str(error))
