"""A mapping says, as data, how the columns of somebody's CSV or Parquet become Transactions and Labels.

It is a TOML file with a closed set of words, no code: `docs/data.md` explains each, and the importers of the public
data sets are nothing but two such files (`archive/mappings/`).
"""

import datetime
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from plumbline.errors import InvalidArchive

Column = Annotated[str, Meta(min_length=1)]
Days = Annotated[float, Meta(ge=0, le=3650)]


class TextField(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Text from a column, a constant, or the row's number.

    missing: what stands for an empty value; values, otherwise: a table that translates the column's values, and what
    stands for all that it does not list (an error when not given); escape: make an id of any text; prefix: put before;
    as_is: ids that look damaged by a spreadsheet, such as 4.71E+15, are taken as they are.
    """

    column: Column | None = None
    constant: str | None = None
    row_number: bool = False
    missing: str | None = None
    values: dict[str, str] | None = None
    otherwise: str | None = None
    escape: bool = False
    prefix: str = ""
    as_is: bool = False

    def __post_init__(self) -> None:
        if (self.column is not None) + (self.constant is not None) + self.row_number != 1:
            raise ValueError("expected exactly one of column, constant and row_number")
        if self.otherwise is not None and self.values is None:
            raise ValueError("otherwise needs values: it stands for what they do not list")


class TimeField(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A time from a column of timestamps, numbers or text.

    format: `iso`, `epoch_s`, `epoch_ms`, `epoch_us`, or a pattern such as `%d.%m.%Y %H:%M:%S`;
    zone: the IANA time zone of times that carry no offset; earliest: the first day that a time may lie on (UTC).
    """

    column: Column
    format: Annotated[str, Meta(min_length=1)] = "iso"
    zone: str = "UTC"
    earliest: datetime.date = datetime.date(2000, 1, 1)

    def __post_init__(self) -> None:
        if self.format not in ("iso", "epoch_s", "epoch_ms", "epoch_us") and "%" not in self.format:
            raise ValueError("format must be iso, epoch_s, epoch_ms, epoch_us or a pattern such as %d.%m.%Y %H:%M:%S")
        if "%z" in self.format or "%Z" in self.format:
            raise ValueError("a pattern cannot read offsets: use the format iso for times that carry one")
        try:
            ZoneInfo(self.zone)
        except (ValueError, OSError, KeyError) as error:
            raise ValueError("zone must be an IANA time zone such as Europe/Zurich") from error


class AmountField(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Money from a column, which becomes minor units exactly; `archive.money` has the rules.

    digits: of the currency; left out, each row's currency has its own (ISO 4217); 0 for a column that holds minor units
    already. decimal, thousands: the marks in text such as 1.234,50; decimals: how many digits follow the decimal mark
    in every value, where that is fixed; negate: outgoing money is written as negative.
    """

    column: Column
    digits: Annotated[int, Meta(ge=0, le=4)] | None = None
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ",", ".", "'", " ", "_"] = ""
    decimals: Annotated[int, Meta(ge=0, le=9)] | None = None
    negate: bool = False

    def __post_init__(self) -> None:
        if self.decimal == self.thousands:
            raise ValueError("decimal and thousands must differ")


class PlaceField(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Degrees from a column, or (unit `e6`) degrees times 1,000,000; an empty value is a place that is not known."""

    column: Column
    unit: Literal["degrees", "e6"] = "degrees"


class TransactionMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where each field of a Transaction comes from; a field with a default here may be left out."""

    transaction_id: TextField
    occurred_at: TimeField
    account_id: TextField
    merchant_id: TextField
    device_id: TextField = TextField(constant="")
    amount_minor: AmountField
    currency: TextField = TextField(constant="XXX")
    channel: TextField = TextField(constant="other")
    mcc: TextField = TextField(constant="0000")
    country: TextField = TextField(constant="ZZ")
    latitude_e6: PlaceField | None = None
    longitude_e6: PlaceField | None = None

    def __post_init__(self) -> None:
        if (self.latitude_e6 is None) != (self.longitude_e6 is None):
            raise ValueError("expected both latitude_e6 and longitude_e6, or neither")


class LabelMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which rows are frauds, and when that became known.

    column: its values, read as text, must be among `fraud` and `genuine`; delay_days: from the transaction to its
    label; known_at: a column that has the time itself (`delay_days` then serves the rows where it is empty).
    """

    column: Column
    fraud: tuple[str, ...] = ("1",)
    genuine: tuple[str, ...] = ("0",)
    delay_days: Days = 7
    known_at: TimeField | None = None
    note: TextField = TextField(constant="")

    def __post_init__(self) -> None:
        if not self.fraud or set(self.fraud) & set(self.genuine):
            raise ValueError("fraud must list at least one value, and none that genuine lists")


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole mapping file.

    source: what the manifest calls the data; in_order: rows come by time, so they can be streamed (they are sorted in
    memory otherwise); delimiter: between a CSV's columns.
    """

    transaction: TransactionMapping
    label: LabelMapping | None = None
    source: Annotated[str, Meta(max_length=200)] = "csv"
    in_order: bool = False
    delimiter: Annotated[str, Meta(pattern="^[ -~\t]$")] = ","

    def columns(self) -> tuple[str, ...]:
        """Every column that the mapping reads, once each."""
        fields = [getattr(self.transaction, name) for name in TransactionMapping.__struct_fields__]
        if self.label is not None:
            fields += [self.label, self.label.known_at, self.label.note]
        named = [field.column for field in fields if field is not None and field.column is not None]
        return tuple(dict.fromkeys(named))


def load_mapping(path: Path) -> Mapping:
    """The mapping in a TOML file; raises InvalidArchive, which names the word that is wrong and what was allowed."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArchive("mapping", "file", str(path), f"a readable TOML file in UTF-8 ({error})") from error
    return _parsed(text, str(path))


def packaged_mapping(name: Literal["handbook", "sparkov"]) -> Mapping:
    """The mapping of a public data set that comes with Plumbline."""
    file = resources.files("archive") / "mappings" / f"{name}.toml"
    return _parsed(file.read_text(encoding="utf-8"), f"{name}.toml")


def with_delay(mapping: Mapping, delay_days: float) -> Mapping:
    """The same mapping with another label delay, in days; one without labels stays as it is."""
    if mapping.label is None:
        return mapping
    if not 0 <= delay_days <= 3650:
        raise InvalidArchive("label", "delay_days", delay_days, "0 to 3650")
    return msgspec.structs.replace(mapping, label=msgspec.structs.replace(mapping.label, delay_days=delay_days))


def _parsed(text: str, name: str) -> Mapping:
    try:
        return msgspec.convert(tomllib.loads(text), Mapping)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArchive("mapping", "file", name, f"TOML ({error})") from error
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        raise InvalidArchive(
            f"mapping {name}", path.strip("`.") or "file", reason, "the words of docs/data.md"
        ) from error
