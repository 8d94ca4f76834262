"""Layer 1: what the one parser accepts, and how it names what it refuses."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.codes import Channel, Country, Currency
from plumbline.errors import InvalidTransaction
from plumbline.transaction import (
    AHEAD_MAX_US,
    AMOUNT_MAX_MINOR,
    DAY_US,
    RECORD_MAX_BYTES,
    Transaction,
    check,
    encode,
    parse,
)

NOW_US = 1_700_000_000_000_000
BODY: dict[str, Any] = {
    "transaction_id": "t-1",
    "occurred_at": NOW_US,
    "account_id": "a-1",
    "merchant_id": "m-1",
    "amount_minor": 1234,
    "currency": "EUR",
    "channel": "pos",
    "mcc": "5411",
    "country": "DE",
}
AMOUNTS = "an integer from 0 to 1000000000000"
IDS = "1 to 64 printable ASCII characters, no space"


def message(**changes: Any) -> bytes:
    return json.dumps({**BODY, **changes}).encode()


def without(field: str) -> bytes:
    return json.dumps({name: value for name, value in BODY.items() if name != field}).encode()


def with_text(old: str, new: bytes) -> bytes:
    raw = message()
    assert raw.count(old.encode()) == 1
    return raw.replace(old.encode(), new)


BAD = {
    "an unknown field": (message(pin="1234"), "pin", "'1234'", "no such field"),
    "an unknown field in another case": (message(Amount_Minor=1), "Amount_Minor", "1", "no such field"),
    "an unknown field with a forged path": (message(**{"x` - at `$.mcc": 1}), "'x` - at `$.mcc'", "1", "no such field"),
    "an unknown field with a line feed": (message(**{"a\nb": 1}), r"'a\nb'", "1", "no such field"),
    "a missing field": (without("mcc"), "mcc", "None", "this field to be present"),
    "no fields at all": (b"{}", "transaction_id", "None", "this field to be present"),
    "a number as text": (message(amount_minor="12"), "amount_minor", "'12'", AMOUNTS),
    "a fraction": (message(amount_minor=12.5), "amount_minor", "12.5", AMOUNTS),
    "a whole number as a float": (message(amount_minor=12.0), "amount_minor", "12.0", AMOUNTS),
    "an exponent": (with_text("1234", b"1e3"), "amount_minor", "1000.0", AMOUNTS),
    "true for a number": (message(amount_minor=True), "amount_minor", "True", AMOUNTS),
    "null for a number": (message(amount_minor=None), "amount_minor", "None", AMOUNTS),
    "a negative amount": (message(amount_minor=-500), "amount_minor", "-500", AMOUNTS),
    "an amount too large": (message(amount_minor=10**12 + 1), "amount_minor", "1000000000001", AMOUNTS),
    "an amount beyond int64": (message(amount_minor=2**63), "amount_minor", "9223372036854775808", AMOUNTS),
    "an amount of 300 digits": (with_text("1234", b"9" * 300), "amount_minor", "999", AMOUNTS),
    "a float too large for a float": (with_text("1234", b"1e400"), "amount_minor", "inf", AMOUNTS),
    "NaN": (with_text("1234", b"NaN"), "amount_minor", "nan", AMOUNTS),
    "Infinity": (with_text("1234", b"Infinity"), "amount_minor", "inf", AMOUNTS),
    "minus Infinity": (with_text("1234", b"-Infinity"), "amount_minor", "-inf", AMOUNTS),
    "a negative time": (message(occurred_at=-1), "occurred_at", "-1", "an integer from 0 to 9007199254740991"),
    "a time as text": (message(occurred_at="2024-01-01"), "occurred_at", "'2024-01-01'", "an integer from 0"),
    "a time two days ahead": (message(occurred_at=NOW_US + 2 * DAY_US), "occurred_at", str(NOW_US + 2 * DAY_US), "at most one day ahead"),
    "seconds for microseconds, ahead by ages": (message(occurred_at=2**53 - 1), "occurred_at", str(2**53 - 1), "at most one day ahead"),
    "an over-long id": (message(transaction_id="t" * 65), "transaction_id", "'tttt", IDS),
    "an empty id": (message(account_id=""), "account_id", "''", IDS),
    "an id with a space": (message(account_id="a 1"), "account_id", "'a 1'", IDS),
    "an id with a trailing line feed": (message(merchant_id="m-1\n"), "merchant_id", r"'m-1\n'", IDS),
    "an id with a NUL": (message(merchant_id="m\0"), "merchant_id", r"'m\x00'", IDS),
    "an id that is not ASCII": (message(account_id="Zürich"), "account_id", "'Zürich'", IDS),
    "an id with a right-to-left mark": (message(account_id="a\u202eb"), "account_id", r"'a\u202eb'", IDS),
    "a number for an id": (message(account_id=7), "account_id", "7", IDS),
    "a nested object for an id": (message(account_id={"id": "a-1"}), "account_id", "{'id': 'a-1'}", IDS),
    "a device with a space": (message(device_id="d 1"), "device_id", "'d 1'", "or empty where there is none"),
    "a raw control character": (with_text("a-1", b"a\x01"), "account_id", r"'a\x01'", IDS),
    "broken UTF-8 in a field": (with_text("a-1", b"a\xff"), "account_id", r"'a\udcff'", IDS),
    "an overlong UTF-8 form": (with_text("a-1", b"\xc0\xaf"), "account_id", r"'\udcc0\udcaf'", IDS),
    "half of a surrogate pair": (with_text("a-1", rb"\ud800"), "account_id", r"'\ud800'", IDS),
    "an unknown currency": (message(currency="EEE"), "currency", "'EEE'", "an ISO 4217 code such as EUR"),
    "a currency in lower case": (message(currency="eur"), "currency", "'eur'", "an ISO 4217 code such as EUR"),
    "an unknown country": (message(country="UK"), "country", "'UK'", "an ISO 3166 alpha-2 code such as DE"),
    "an unknown channel": (message(channel="POS"), "channel", "'POS'", "one of atm, ecom, other, pos, transfer"),
    "a category of three digits": (message(mcc="541"), "mcc", "'541'", "four digits"),
    "a category of Arabic digits": (message(mcc="٥٤١١"), "mcc", "'٥٤١١'", "four digits"),
    "a category as a number": (message(mcc=5411), "mcc", "5411", "four digits"),
    "a lone latitude": (message(latitude_e6=1), "longitude_e6", "None", "both latitude_e6 and longitude_e6, or neither"),
    "a lone longitude": (message(longitude_e6=1, latitude_e6=None), "latitude_e6", "None", "both latitude_e6"),
    "a latitude beyond the pole": (message(latitude_e6=90_000_001, longitude_e6=0), "latitude_e6", "90000001", "from -90000000 to 90000000"),
    "a longitude beyond the date line": (message(latitude_e6=0, longitude_e6=180_000_001), "longitude_e6", "180000001", "from -180000000"),
    "degrees for millionths": (message(latitude_e6=52.5, longitude_e6=13.4), "latitude_e6", "52.5", "an integer from -90000000"),
    "a field twice": (message()[:-1] + b', "amount_minor": 1}', "amount_minor", "1", "this field once"),
    "a field twice, once escaped": (message()[:-1] + rb', "\u0061mount_minor": 1}', "amount_minor", "1", "this field once"),
    "a field twice, with a space before the colon": (message()[:-1] + b', "mcc" : "0000"}', "mcc", "'0000'", "this field once"),
    "an optional field twice": (message(device_id="d")[:-1] + b',"device_id":""}', "device_id", "''", "this field once"),
    "nothing": (b"", "record", "b''", "one JSON object"),
    "an array": (b"[]", "record", "b'[]'", "one JSON object"),
    "an array that holds a transaction": (b"[" + message() + b"]", "record", "b'[{", "one JSON object"),
    "a text": (b'"t-1"', "record", "t-1", "one JSON object"),
    "null": (b"null", "record", "b'null'", "one JSON object"),
    "NaN alone": (b"NaN", "record", "b'NaN'", "one JSON object"),
    "bytes that are no text": (b"\xff\xfe\x00", "record", r"b'\xff\xfe\x00'", "one JSON object"),
    "UTF-16": (message().decode().encode("utf-16"), "record", r"b'\xff\xfe{", "one JSON object"),
    "a byte order mark": (b"\xef\xbb\xbf" + message(), "record", r"b'\xef\xbb\xbf", "one JSON object"),
    "half a message": (message()[:50], "record", "b'{", "one JSON object"),
    "two messages in one": (message() + message(), "record", "b'{", "one JSON object"),
    "nesting without end": (b'{"account_id":' + b"[" * 3000, "record", "b'{", "one JSON object"),
    "deep nesting in a known field": (with_text('"a-1"', b"[" * 1500 + b"]" * 1500), "record", "b'{", "one JSON object"),
    "deep nesting in an unknown field": (message()[:-1] + b',"x":' + b"[" * 1500 + b"]" * 1500 + b"}", "record", "b'{", "one JSON object"),
    "too many bytes": (message(device_id="d" * RECORD_MAX_BYTES), "record", "bytes", "4096 bytes or fewer"),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "field", "value", "allowed"), BAD.values(), ids=BAD.keys())
def test_a_bad_message_is_refused_with_field_value_and_what_was_allowed(
    raw: bytes, field: str, value: str, allowed: str
) -> None:
    with pytest.raises(InvalidTransaction) as caught:
        parse(raw, NOW_US)
    assert caught.value.field == field
    assert value in str(caught.value)
    assert allowed in str(caught.value)


def test_the_message_names_the_transaction_where_its_id_is_fit_to_print() -> None:
    with pytest.raises(InvalidTransaction, match=r"^transaction t-1: amount_minor is -1: expected"):
        parse(message(amount_minor=-1), NOW_US)


def test_an_id_made_to_forge_a_log_line_is_not_printed_raw() -> None:
    with pytest.raises(InvalidTransaction) as caught:
        parse(message(transaction_id="t\n2024-01-01 all is well \x1b[32m"), NOW_US)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_hostile_value_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidTransaction) as caught:
        parse(message(account_id="x" * 3000), NOW_US)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "raw",
    [
        message(),
        message() + b"\n",
        message(device_id="", latitude_e6=None, longitude_e6=None),
        message(device_id="d-1", latitude_e6=-90_000_000, longitude_e6=180_000_000),
        message(account_id='say"device_id":'),
        message(account_id="back\\slash"),
        message(account_id="amount_minor", device_id="device_id"),
        message(amount_minor=0),
        message(amount_minor=AMOUNT_MAX_MINOR),
        message(occurred_at=0),
        message(occurred_at=NOW_US + AHEAD_MAX_US),
        message(transaction_id="~" * 64),
        json.dumps(BODY, separators=(" , ", " : ")).encode(),
        json.dumps(dict(reversed(BODY.items()))).encode(),
    ],
)
def test_a_good_message_at_the_edge_is_accepted(raw: bytes) -> None:
    transaction = parse(raw, NOW_US)
    assert {name: getattr(transaction, name) for name in json.loads(raw)} == json.loads(raw)


def test_check_refuses_what_no_parser_has_seen() -> None:
    lone = Transaction(**BODY, latitude_e6=1)
    with pytest.raises(InvalidTransaction, match="longitude_e6 is None"):
        check(lone, NOW_US)


ids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
places = st.none() | st.tuples(st.integers(-90_000_000, 90_000_000), st.integers(-180_000_000, 180_000_000))


@st.composite
def transactions(draw: st.DrawFn) -> Transaction:
    place = draw(places) or (None, None)
    return Transaction(
        transaction_id=draw(ids),
        occurred_at=draw(st.integers(0, NOW_US + AHEAD_MAX_US)),
        account_id=draw(ids),
        merchant_id=draw(ids),
        device_id=draw(ids | st.just("")),
        amount_minor=draw(st.integers(0, AMOUNT_MAX_MINOR)),
        currency=draw(st.sampled_from(get_args(Currency))),
        channel=draw(st.sampled_from(get_args(Channel))),
        mcc=draw(st.from_regex(r"\A[0-9]{4}\Z")),
        country=draw(st.sampled_from(get_args(Country))),
        latitude_e6=place[0],
        longitude_e6=place[1],
    )


@given(transactions())
def test_what_is_encoded_parses_to_the_same_transaction(transaction: Transaction) -> None:
    assert parse(encode(transaction), NOW_US) == transaction


@given(transactions(), st.data())
def test_a_repeated_field_is_always_refused(transaction: Transaction, data: st.DataObject) -> None:
    body = json.loads(encode(transaction))
    for name in ("device_id", "latitude_e6", "longitude_e6"):
        if not body[name] and body[name] != 0 and data.draw(st.booleans()):
            del body[name]
    name = data.draw(st.sampled_from(sorted(body)))
    before, after = data.draw(st.sampled_from(["", " "])), data.draw(st.sampled_from(["", " "]))
    raw = json.dumps(body)[:-1] + f',"{name}"{before}:{after}{json.dumps(body[name])}}}'
    with pytest.raises(InvalidTransaction, match="this field once"):
        parse(raw.encode(), NOW_US)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_transaction_or_are_refused(raw: bytes) -> None:
    assert_parsed_or_refused(raw)


@given(st.sampled_from(sorted(BODY)), anything)
def test_any_value_in_any_field_is_accepted_or_refused(field: str, value: Any) -> None:
    assert_parsed_or_refused(json.dumps({**BODY, field: value}).encode())


@given(st.dictionaries(st.text(), anything, min_size=1, max_size=3))
def test_any_further_field_is_refused(extra: dict[str, Any]) -> None:
    assert_parsed_or_refused(json.dumps({**extra, **BODY}).encode("utf-8", errors="surrogatepass"))


@given(st.integers(0, len(message()) - 1), st.integers(0, 255))
def test_any_one_changed_byte_is_accepted_or_refused(position: int, byte: int) -> None:
    raw = bytearray(message())
    raw[position] = byte
    assert_parsed_or_refused(bytes(raw))


def assert_parsed_or_refused(raw: bytes) -> None:
    transaction = parsed_or_refusal(raw)
    if isinstance(transaction, InvalidTransaction):
        str(transaction).encode()
        assert transaction.field
        assert transaction.allowed
    else:
        assert parse(encode(transaction), NOW_US) == transaction


def parsed_or_refusal(raw: bytes) -> Transaction | InvalidTransaction:
    try:
        return parse(raw, NOW_US)
    except InvalidTransaction as error:
        return error
