"""Every error Plumbline raises on purpose, as a small tree whose branches tell the caller what to do.

`Invalid`    the input is wrong: set it aside (dead-letter) or correct it; trying again cannot help.
`Retryable`  a part cannot be reached at present: try again, and meanwhile degrade, never approve.
`NotFound`   the thing named does not exist here.
`Refused`    the request was understood, and is not allowed in the present state.
`Unready`    this machine lacks something that a person must supply; the message says what.

Status codes and exit codes are chosen at the edges (`plumbline.cli`, `app`), never here.
"""

import datetime
from typing import Any

SHOWN_CHARACTERS = 80
SUBJECT_MAX_CHARACTERS = 500
ALLOWED_MAX_CHARACTERS = 8000
"""An error about a message is journaled with it: so long at most, whatever the message holds."""


def shown(value: object) -> str:
    """`repr` of a value, cut to 80 characters, so that a hostile value cannot flood a log.

    >>> shown("x" * 200)[-3:]
    '...'
    """
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or an integer of more digits than Python prints
        text = f"<a value of type {type(value).__name__} that cannot be printed>"
    return cut(text, SHOWN_CHARACTERS)


def cut(text: str, most: int) -> str:
    """The text, or its beginning with an ellipsis where it is longer than `most` characters.

    >>> cut("abcdef", 5), cut("abcde", 5)
    ('ab...', 'abcde')
    """
    return text if len(text) <= most else text[: most - 3] + "..."


class PlumblineError(Exception):
    """Base of all errors raised on purpose."""


class Invalid(PlumblineError, ValueError):
    """Input that can never be accepted: which field, which value, what was allowed.

    Its text is at most some 9,000 characters long, whatever the input was.
    """

    def __init__(self, subject: str, field: str, value: Any, allowed: str) -> None:
        self.subject = cut(subject, SUBJECT_MAX_CHARACTERS)
        self.field = cut(field, SUBJECT_MAX_CHARACTERS)
        self.value = value
        self.allowed = cut(allowed, ALLOWED_MAX_CHARACTERS)
        super().__init__(f"{self.subject}: {self.field} is {shown(value)}: expected {self.allowed}")


class InvalidTransaction(Invalid):
    """A message on `transactions` that is no Transaction; it goes to the dead-letter topic."""


class InvalidLabel(Invalid):
    """A message on `labels` that is no Label; it goes to the dead-letter topic."""


class InvalidControl(Invalid):
    """A message on `control` that is neither a policy nor an assignment."""


class UnreadableMessage(Invalid):
    """A message whose batch the broker holds damaged, or compressed by a codec that nobody knows."""


class UnprocessableMessage(Invalid):
    """A message that ended the scorer's own code twice, and alone the second time; others are decided meanwhile."""


class InvalidSetting(Invalid):
    """An environment variable `PLUMBLINE_*` with a wrong name or value."""


class InvalidArchive(Invalid):
    """A file or an archive that an importer or reader cannot accept; `field` names row and column."""


class InvalidDeclaration(Invalid):
    """A feature or measure that contradicts itself or another one."""


class Retryable(PlumblineError):
    """A part that cannot be reached at present."""


class ModelUnavailable(Retryable):
    """The model server gave no score in time; the decision falls back to rules and review."""


class ModelTimedOut(ModelUnavailable):
    """The model server did not answer before the deadline."""


class ModelRefused(ModelUnavailable):
    """The model server understood the question and said no, as it does of a version that it let go."""


class BrokerUnavailable(Retryable):
    """Kafka cannot be reached."""


class NotTaken(BrokerUnavailable):
    """Kafka has not said that it took a transaction; sent again under the same id, it is decided once."""


class StoreUnavailable(Retryable):
    """The SQL database cannot be reached."""


class RunnerUnavailable(Retryable):
    """The process or the service that runs Beam's pipelines has gone; what was computed is asked for again."""


class Busy(Retryable):
    """As many callers wait as are allowed to; nothing was done."""


class RateExceeded(Retryable):
    """A key was used more often than it may be; nothing was done."""


class ReleaseHeld(Retryable):
    """Another command changes the stream and the registry now, or took that over from this one; run it again."""


class Preempted(Retryable):
    """Work that was told to stop, and did where it can go on: start it again."""


class NotFound(PlumblineError):
    """The thing named does not exist here."""


class ModelVersionNotFound(NotFound):
    """No such model version in the base path or registry."""


class TransactionNotFound(NotFound):
    """No decision with this transaction id."""


class AlertNotFound(NotFound):
    """No alert with this id."""


class UserNotFound(NotFound):
    """No log-in with this name."""


class KeyNotFound(NotFound):
    """No API key with this name."""


class Refused(PlumblineError):
    """Understood, and not allowed in the present state."""


class TransactionChanged(Refused):
    """A transaction id that came before with another body; `first` is the answer to that one, None while it waits."""

    def __init__(self, transaction_id: str, first: Any = None) -> None:
        self.transaction_id = transaction_id
        self.first = first
        super().__init__(
            f"transaction {transaction_id} came before with another body: the first one stands; give a new payment a "
            "new transaction_id"
        )


class TransactionRejected(Refused):
    """The scorer put a message aside that was taken for a transaction here; it is in the dead-letter topic."""


class KeyRefused(Refused):
    """No API key, one that is not known, or one that was disabled."""


class ScopeMissing(Refused):
    """An API key without the scope that a request needs."""


class FingerprintMismatch(Refused):
    """Two parts that were built from different feature declarations must not work together."""

    def __init__(self, part: str, found: str, expected: str, remedy: str) -> None:
        self.part = part
        self.found = found
        self.expected = expected
        super().__init__(
            f"{part} was made with feature declaration {found}, but this process runs {expected}: {remedy}"
        )


class AlertClosed(Refused):
    """Another analyst's verdict closed the alert first; `closed_at` is in microseconds since 1970 UTC."""

    def __init__(self, alert_id: int, closed_by: str, closed_at: int) -> None:
        self.alert_id = alert_id
        self.closed_by = closed_by
        self.closed_at = closed_at
        moment = datetime.datetime.fromtimestamp(closed_at // 1_000_000, datetime.UTC)
        super().__init__(
            f"alert {alert_id} was closed by {closed_by} at {moment:%Y-%m-%d %H:%M:%S} UTC: take the next one"
        )


class LedgerMoved(Refused):
    """The ledger's position in SQL is not the expected one: another ledger stored the same batch."""


class JournalRefused(Refused):
    """A journal record that cannot be read, or a journal that is not the one SQL was filled from."""


class SnapshotRefused(Refused):
    """A snapshot that is corrupt, cut short, or of another format; rebuild it from the journal."""


class Fenced(Refused):
    """Another scorer leads now; this one must stop writing at once."""


class ClockWrong(Retryable):
    """This machine's clock and the broker's differ too much to lead; `seconds` is ours less the broker's."""

    def __init__(self, seconds: float, tolerance_seconds: int) -> None:
        self.seconds = seconds
        super().__init__(
            f"this machine's clock is {abs(seconds):.0f} s {'behind' if seconds < 0 else 'ahead of'} the broker's, and "
            f"PLUMBLINE_CLOCK_TOLERANCE_SECONDS is {tolerance_seconds}: set the clock right (NTP); until then this "
            "scorer does not lead"
        )


class StateDiverged(Refused):
    """Folding the journal gave other numbers than the journal holds; scoring on would be skew."""


class HistoryMissing(Refused):
    """A declaration came into force whose history this process does not have; `plumbline prepare` makes it."""


class Unready(PlumblineError):
    """This machine lacks something; the message is one sentence that says what to do."""
