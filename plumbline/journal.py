"""The journal's records: all that changes state or answers, in one total order (offset = sequence number).

Every message that the scorer takes from `transactions`, `labels` and `control` ends in exactly one record here that
names it as its source, so the journal's own sources say where to go on, and conservation can be checked from the
journal alone. What the scorer adds by itself has no source:

`Decision`        a transaction's answer.
`Conflict`        a transaction whose id was decided before; the first decision stands.
`Rejected`        a message that could not be accepted; its bytes are in the dead-letter topic.
`LabelApplied`    a label, and whether it entered history.
`ControlApplied`  a policy that came into force with the next decision.
`AssignmentApplied`  model versions and feature declarations that came into force with the next decision.
`JournalBegun`    the first entry of all: which archive came before, and how many transaction ids are remembered.
`MemoryChanged`   how many transaction ids are remembered from here on.
`SourcesOpened`   source topics by their ids, and the first offset that was taken of each partition.
`Answered`        how a model version answered, while an assignment has arms or shadows, and a shadow's scores.
"""

import hashlib
from typing import Any, Final, Literal

import msgspec

from plumbline.assignment import Assignment
from plumbline.decision import Decision, Source
from plumbline.label import Label
from plumbline.policy import Policy
from plumbline.transaction import Transaction


class Conflict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="conflict"):
    """A transaction id seen again; `identical` says whether the body was the same as the first time."""

    transaction: Transaction
    source: Source
    identical: bool
    journaled_at: int


class Rejected(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="rejected"):
    """A message that went to the dead-letter topic, and why.

    kind `invalid`: its content is wrong; `unreadable`: its batch is damaged at the broker; `unprocessable`: it ended
    the scorer's own code twice. max_age_days: the setting by which its times were judged, counted back from
    `source.appended_at_ms`; None in entries of releases that had no such setting.
    """

    source: Source
    error: str
    journaled_at: int
    kind: Literal["invalid", "unreadable", "unprocessable"] = "invalid"
    max_age_days: int | None = None


class LabelApplied(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="label"):
    """A label as it became known.

    effect `counted`: it entered the history of the account and merchant given here;
    `repeated`: its transaction had a fraud label before, or one waits for it; `not_fraud`: its verdict was another;
    `waiting`: it says fraud of a transaction that has not come yet; the decision on that transaction is followed by a
    second record of the label, `counted` and with `source` None;
    `unknown_transaction`: not fraud, and no remembered decision has this id.
    Account and merchant are empty where the transaction is not remembered, and occurred_at, the transaction's, is 0; it
    is so too in entries of releases that did not journal it.
    """

    label: Label
    source: Source | None
    effect: Literal["counted", "repeated", "not_fraud", "waiting", "unknown_transaction"]
    account_id: str = ""
    merchant_id: str = ""
    occurred_at: int = 0
    journaled_at: int


class ControlApplied(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="control"):
    """A policy that came into force; `source` is None for the one a first start brings along."""

    policy: Policy
    source: Source | None
    journaled_at: int


class AssignmentApplied(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="assignment"):
    """Which model versions answer from here on, and the declarations whose history is computed for them.

    declarations: every one in force, in full, by its fingerprint; fingerprints: of each version that the assignment
    names, in its order. A first start journals its release's declaration, without an assignment and without a source.
    """

    assignment: Assignment | None
    fingerprints: tuple[str, ...]
    declarations: dict[str, dict[str, Any]]
    source: Source | None
    journaled_at: int


class Answered(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True, tag="answered"):
    """How one model version answered when it was asked about n decisions, while an assignment has arms or shadows.

    role: what the version was asked as; rows: n. failure: empty where it answered in time; `skipped` says that a shadow
    was too far behind to be asked. micros: how long the answer took, microseconds.
    sequences: a shadow's decisions, as their sequence numbers; values: its scores of them, float32 written so that they
    read back to the same bits, none where it failed. A shadow is asked off the deciding path, so this entry comes some
    time after the decisions. The other roles' scores stand in the decisions, which follow in the same batch.
    """

    version: int
    role: Literal["champion", "canary", "experiment", "shadow"]
    rows: int
    failure: Literal["", "deadline", "error", "skipped"] = ""
    micros: int
    sequences: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    journaled_at: int
    source: None = None


class JournalBegun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="begun"):
    """What a fold of the journal needs beside the journal; journals of older releases begin without it.

    archive_digest: of the archive whose arrivals came before this entry, empty for none; archive_until_us: the arrival
    time up to which it counts, microseconds (None: whole); remembered: newest transactions whose ids are remembered.
    """

    archive_digest: str = ""
    archive_until_us: int | None = None
    remembered: int
    journaled_at: int
    source: None = None


class MemoryChanged(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="memory"):
    """From here on so many of the newest transactions are remembered."""

    remembered: int
    journaled_at: int
    source: None = None


class Opened(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A partition of a source that is taken from here on, or taken up again behind a gap.

    topic_id: Kafka's id of the topic, empty where the broker gives none; first: the offset taken next; lost_from: where
    an operator accepted that messages are gone, the offset that should have been next; instead_of: id of the topic of
    this name that was taken before, where it was deleted and created again; its offsets are not this one's.
    """

    topic: str
    topic_id: str
    partition: int
    first: int
    lost_from: int | None = None
    instead_of: str = ""


class SourcesOpened(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="sources"):
    """Source partitions that a leader takes for the first time, or for the first time behind an accepted gap."""

    opened: tuple[Opened, ...]
    journaled_at: int
    source: None = None


Entry = (
    Decision
    | Conflict
    | Rejected
    | LabelApplied
    | ControlApplied
    | AssignmentApplied
    | Answered
    | JournalBegun
    | MemoryChanged
    | SourcesOpened
)

_decoder = msgspec.json.Decoder(Entry)
encode = msgspec.json.Encoder(order="deterministic").encode


def decode(raw: bytes) -> Entry:
    """The journal entry in a record's bytes; raises msgspec.ValidationError for anything else."""
    entry: Entry = _decoder.decode(raw)
    return entry


_SOURCES: Final = b'{"type":"sources"'


def opened_in(raw: bytes | None) -> tuple[Opened, ...]:
    """The source partitions that a journal record opens; none for a record of another kind, which is not decoded."""
    if raw is None or not raw.startswith(_SOURCES):
        return ()
    entry = decode(raw)
    return entry.opened if isinstance(entry, SourcesOpened) else ()


def identity(first: bytes) -> str:
    """Digest of the bytes of a journal's first record, which no other journal has.

    Kept beside every remembered place in the journal, so that a journal that was created again is noticed.
    """
    return hashlib.sha256(first).hexdigest()


class DeadLetter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A record of `transactions.dead-letter`: the first 4,096 bytes (base64 in JSON), why, and where they came from.

    raw_length, raw_sha256: of all the message's bytes, or of its batch where that is damaged; 0 and empty in letters of
    earlier releases, whose `raw` is the whole message.
    """

    raw: bytes
    error: str
    field: str
    allowed: str
    source: Source
    rejected_at: int
    raw_length: int = 0
    raw_sha256: str = ""


ENTRY_MAX_BYTES: Final = 1_048_000
"""Of the 1,048,588 bytes that a topic takes by Kafka's default, batch, record and key use fewer than 500."""
