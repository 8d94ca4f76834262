"""Layer 1: a transaction as the payment platform sends it, parsed once, by one parser, for stream, batch and API.

Frozen msgspec Structs are the wire type, the domain type and the JSON Schema at once. Whatever `parse` accepts is
canonical: text, and integers that fit int64. No float enters here, so nothing can be rounded.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from plumbline import times
from plumbline.codes import Channel, Country, Currency
from plumbline.errors import InvalidTransaction
from plumbline.refusal import explained, repeated_field
from plumbline.times import require_plausible

SECOND_US: Final = times.SECOND_US
DAY_US: Final = times.DAY_US
AHEAD_MAX_US: Final = times.AHEAD_MAX_US

AMOUNT_MAX_MINOR: Final = 10**12
"""Ten thousand million of a currency with cents: sums of 9 million such amounts still fit int64."""

RECORD_MAX_BYTES: Final = 4096

# `$` alone would let a trailing line feed pass.
ID_PATTERN = r"^[!-~]+$(?!\n)"
Id = Annotated[
    str,
    Meta(min_length=1, max_length=64, pattern=ID_PATTERN, description="1 to 64 printable ASCII characters, no space."),
]
OptionalId = Annotated[
    str, Meta(max_length=64, pattern=r"^[!-~]*$(?!\n)", description="As an id, or empty where there is none.")
]
TimeUs = Annotated[int, Meta(ge=0, le=2**53 - 1, description="Microseconds since 1970-01-01 UTC.")]
AmountMinor = Annotated[int, Meta(ge=0, le=AMOUNT_MAX_MINOR, description="Minor units of the currency (cents).")]
LatitudeE6 = Annotated[int, Meta(ge=-90_000_000, le=90_000_000, description="Degrees north, times 1,000,000.")]
LongitudeE6 = Annotated[int, Meta(ge=-180_000_000, le=180_000_000, description="Degrees east, times 1,000,000.")]
Mcc = Annotated[
    str,
    Meta(pattern=r"^[0-9]{4}$(?!\n)", description="Four digits: an ISO 18245 merchant category; 0000 where unknown."),
]


class Transaction(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True):
    """One payment, as its platform reports it."""

    transaction_id: Id
    occurred_at: TimeUs
    account_id: Id
    merchant_id: Id
    device_id: OptionalId = ""
    amount_minor: AmountMinor
    currency: Annotated[Currency, Meta(description="An ISO 4217 code such as EUR; XXX where unknown.")]
    channel: Channel
    mcc: Mcc
    country: Annotated[Country, Meta(description="An ISO 3166 alpha-2 code such as DE; ZZ where unknown.")]
    latitude_e6: LatitudeE6 | None = None
    longitude_e6: LongitudeE6 | None = None


_decoder = msgspec.json.Decoder(Transaction)
encode = msgspec.json.Encoder().encode

# In a message without a backslash every `"` begins or ends a name or a text: 9 fields are always there, 7 of them text.
_QUOTES: Final = 2 * (9 + 7)


def parse(raw: bytes, now_us: int, oldest_us: int = 0) -> Transaction:
    """The Transaction in a message's bytes.

    raw: UTF-8 JSON object of at most 4,096 bytes; now_us: when it came, microseconds since 1970 UTC; oldest_us: the
    earliest `occurred_at` that is accepted.
    Raises InvalidTransaction, which names the field, its value and what was allowed.
    """
    if len(raw) > RECORD_MAX_BYTES:
        raise InvalidTransaction("transaction", "record", f"{len(raw)} bytes", f"{RECORD_MAX_BYTES} bytes or fewer")
    try:
        transaction = _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise explained(InvalidTransaction, "transaction", Transaction, raw, error) from None
    if not _surely_unrepeated(transaction, raw) and (repeated := repeated_field(raw)):
        raise InvalidTransaction(_subject(transaction), repeated[0], repeated[1], "this field once")
    check(transaction, now_us, oldest_us)
    return transaction


def _surely_unrepeated(transaction: Transaction, raw: bytes) -> bool:
    """Whether an accepted message holds so few quotation marks that no field can stand in it twice.

    A fraction of a microsecond, and right for what platforms send; where it says False, a full reading decides.
    """
    device = 4 if transaction.device_id or b'"device_id":' in raw else 0
    place = 4 if transaction.latitude_e6 is not None or (b'"latitude_e6":' in raw and b'"longitude_e6":' in raw) else 0
    return raw.count(b'"') == _QUOTES + device + place and b"\\" not in raw


def check(transaction: Transaction, now_us: int, oldest_us: int = 0) -> None:
    """The rules that need more than one field or a clock; every maker of a Transaction calls it.

    now_us, oldest_us: as in `parse`. Raises InvalidTransaction.
    """
    time_us = transaction.occurred_at
    if not oldest_us <= time_us <= now_us + AHEAD_MAX_US:
        require_plausible(InvalidTransaction, _subject(transaction), "occurred_at", time_us, now_us, oldest_us)
    if (transaction.latitude_e6 is None) != (transaction.longitude_e6 is None):
        missing = "latitude_e6" if transaction.latitude_e6 is None else "longitude_e6"
        raise InvalidTransaction(_subject(transaction), missing, None, "both latitude_e6 and longitude_e6, or neither")


def _subject(transaction: Transaction) -> str:
    return f"transaction {transaction.transaction_id}"
