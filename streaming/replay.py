"""Rows of an archive as the messages that a payment platform and its label feeds would have sent."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from plumbline.errors import Invalid
from plumbline.label import Label
from plumbline.transaction import ID_PATTERN, Transaction, encode

ID_MAX_CHARACTERS = 64


class Message(NamedTuple):
    """One message: its place in the archive, its shifted time of arrival (microseconds), key and value."""

    sequence: int
    arrived_at: int
    key: bytes
    value: bytes


def messages(part: str, batch: pa.RecordBatch, shift_us: int, id_suffix: str) -> Iterator[Message]:
    """The batch's rows as messages, in order: transactions keyed by account, labels by transaction.

    part: `transactions` or `labels`, as the archive calls its tables;
    shift_us: added to every time; id_suffix: appended to every transaction's and label's id, so that a replay does not
    repeat ids that were decided before. Raises Invalid when an id would become longer than 64 characters.
    """
    renamed = {"transaction_id", "label_id"} if id_suffix else set()
    columns = {
        name: _with_suffix(batch, name, id_suffix) if name in renamed else batch.column(name).to_pylist()
        for name in batch.schema.names
    }
    return _transactions(columns, shift_us) if part == "transactions" else _labels(columns, shift_us)


def require_suffix(suffix: str) -> None:
    """Raises Invalid for a suffix that no id may end in."""
    if suffix and not re.fullmatch(ID_PATTERN, suffix):
        raise Invalid("play", "id suffix", suffix, "printable ASCII characters without a space")


def _transactions(columns: dict[str, list[Any]], shift_us: int) -> Iterator[Message]:
    fields = (columns[name] for name in ("sequence", *Transaction.__struct_fields__))
    for sequence, identity, at, account, merchant, device, amount, currency, channel, mcc, country, north, east in zip(
        *fields, strict=True
    ):
        value = Transaction(
            transaction_id=identity,
            occurred_at=at + shift_us,
            account_id=account,
            merchant_id=merchant,
            device_id=device,
            amount_minor=amount,
            currency=currency,
            channel=channel,
            mcc=mcc,
            country=country,
            latitude_e6=north,
            longitude_e6=east,
        )
        yield Message(sequence, at + shift_us, account.encode(), encode(value))


def _labels(columns: dict[str, list[Any]], shift_us: int) -> Iterator[Message]:
    names = ("sequence", "label_id", "transaction_id", "verdict", "source", "known_at", "note")
    for sequence, identity, transaction, verdict, source, at, note in zip(
        *(columns[name] for name in names), strict=True
    ):
        value = Label(
            label_id=identity,
            transaction_id=transaction,
            verdict=verdict,
            source=source,
            known_at=at + shift_us,
            note=note or "",
        )
        yield Message(sequence, at + shift_us, transaction.encode(), encode(value))


def _with_suffix(batch: pa.RecordBatch, name: str, suffix: str) -> list[Any]:
    column = batch.column(name)
    longest = (pc.max(pc.binary_length(column)).as_py() or 0) + len(suffix)
    if longest > ID_MAX_CHARACTERS:
        raise Invalid("play", "id suffix", suffix, f"one with which no {name} is longer than {ID_MAX_CHARACTERS}")
    return [value + suffix for value in column.to_pylist()]
