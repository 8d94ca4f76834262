"""What became known about a transaction, by whom, and when: the only way fraud enters history and training."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from plumbline.errors import InvalidLabel
from plumbline.refusal import explained, repeated_field
from plumbline.times import require_plausible
from plumbline.transaction import Id, TimeUs

Verdict = Literal["fraud", "genuine", "unsure"]
"""`unsure` is kept and shown, and neither reaches history nor trains a model."""

LabelSource = Literal["analyst", "chargeback", "maturity", "archive"]

NOTE_MAX_CHARACTERS: Final = 2000
LABEL_MAX_BYTES: Final = 12_288


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One statement about one transaction; a later one adds to it, and never erases it."""

    label_id: Id
    transaction_id: Id
    verdict: Verdict
    source: LabelSource
    known_at: TimeUs
    by: Annotated[str, Meta(max_length=128, description="Who said it: an analyst's log-in, or a feed's name.")] = ""
    note: Annotated[str, Meta(max_length=NOTE_MAX_CHARACTERS, description="The analyst's own words.")] = ""


_decoder = msgspec.json.Decoder(Label)


def parse(raw: bytes, now_us: int, oldest_us: int = 0) -> Label:
    """The Label in a message's bytes.

    raw: UTF-8 JSON object of at most 12,288 bytes; now_us: when it came, microseconds since 1970 UTC; oldest_us: the
    earliest `known_at` that is accepted.
    Raises InvalidLabel, which names the field, its value and what was allowed.
    """
    if len(raw) > LABEL_MAX_BYTES:
        raise InvalidLabel("label", "record", f"{len(raw)} bytes", f"{LABEL_MAX_BYTES} bytes or fewer")
    try:
        label = _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise explained(InvalidLabel, "label", Label, raw, error) from None
    if repeated := repeated_field(raw):
        raise InvalidLabel(f"label {label.label_id}", repeated[0], repeated[1], "this field once")
    require_plausible(InvalidLabel, f"label {label.label_id}", "known_at", label.known_at, now_us, oldest_us)
    return label
