"""The journal's records: all that changes state or answers, in one total order (offset = sequence number).

Every message that the scorer takes from `transactions`, `labels` and `control` ends in exactly one record here, so
the journal's own sources say where to go on, and conservation can be checked from the journal alone:

`Decision`        a transaction's answer.
`Conflict`        a transaction whose id was decided before; the first decision stands.
`Rejected`        a message that could not be accepted; its bytes are in the dead-letter topic.
`LabelApplied`    a label, and whether it entered history.
`ControlApplied`  a policy that came into force with the next decision.
"""

from typing import Literal

import msgspec

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
    """A message that went to the dead-letter topic, and why."""

    source: Source
    error: str
    journaled_at: int


class LabelApplied(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="label"):
    """A label as it became known.

    effect `counted`: it entered the history of the account and merchant given here;
    `repeated`: its transaction had a fraud label before; `not_fraud`: its verdict was another;
    `unknown_transaction`: no remembered decision has this id (account and merchant are empty then).
    """

    label: Label
    source: Source
    effect: Literal["counted", "repeated", "not_fraud", "unknown_transaction"]
    account_id: str = ""
    merchant_id: str = ""
    journaled_at: int


class ControlApplied(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="control"):
    """A policy that came into force; `source` is None for the one a first start brings along."""

    policy: Policy
    source: Source | None
    journaled_at: int


Entry = Decision | Conflict | Rejected | LabelApplied | ControlApplied

_decoder = msgspec.json.Decoder(Entry)
encode = msgspec.json.Encoder(order="deterministic").encode


def decode(raw: bytes) -> Entry:
    """The journal entry in a record's bytes; raises msgspec.ValidationError for anything else."""
    entry: Entry = _decoder.decode(raw)
    return entry


class DeadLetter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A record of `transactions.dead-letter`: the raw bytes (base64 in JSON), why, and where they came from."""

    raw: bytes
    error: str
    field: str
    allowed: str
    source: Source
    rejected_at: int
