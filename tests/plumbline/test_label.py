"""Labels: the one way in which what became known enters history and training."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.errors import InvalidLabel
from plumbline.label import LABEL_MAX_BYTES, NOTE_MAX_CHARACTERS, parse
from plumbline.transaction import DAY_US

NOW_US = 1_700_000_000_000_000
BODY: dict[str, Any] = {
    "label_id": "l-1",
    "transaction_id": "t-1",
    "verdict": "fraud",
    "source": "analyst",
    "known_at": NOW_US,
    "by": "ada",
    "note": "Das war nicht die Kundin. 不是本人。",
}


def message(**changes: Any) -> bytes:
    return json.dumps({**BODY, **changes}).encode()


def test_a_label_keeps_every_word_of_its_note() -> None:
    label = parse(message(), NOW_US)
    assert msgspec.structs.asdict(label) == BODY


def test_the_longest_note_in_four_byte_characters_fits() -> None:
    note = "\U0001f9ed" * NOTE_MAX_CHARACTERS
    assert parse(json.dumps({**BODY, "note": note}, ensure_ascii=False).encode(), NOW_US).note == note


@pytest.mark.parametrize(
    ("raw", "field", "allowed"),
    [
        (message(verdict="maybe"), "verdict", "one of fraud, genuine, unsure"),
        (message(source="rumour"), "source", "one of analyst, archive, chargeback, maturity"),
        (message(known_at=NOW_US + 2 * DAY_US), "known_at", "at most one day ahead"),
        (message(label_id="l 1"), "label_id", "1 to 64 printable ASCII"),
        (message(note="x" * (NOTE_MAX_CHARACTERS + 1)), "note", "2000 characters or fewer"),
        (message(note=7), "note", "2000 characters or fewer"),
        (message(note="x" * LABEL_MAX_BYTES), "record", "12288 bytes or fewer"),
        (message(score=1), "score", "no such field"),
        (message()[:-1] + b', "verdict": "genuine"}', "verdict", "this field once"),
        (message().replace(b'"ada"', b'"a\xffda"'), "by", "who said it"),
        (b"[]", "record", "one JSON object"),
        (b'{"note":' + b"[" * 9000, "record", "one JSON object"),
    ],
)
def test_a_bad_label_is_refused_by_name(raw: bytes, field: str, allowed: str) -> None:
    with pytest.raises(InvalidLabel) as caught:
        parse(raw, NOW_US)
    assert caught.value.field == field
    assert allowed in str(caught.value)


@given(st.binary(max_size=300) | st.dictionaries(st.text(), st.text() | st.integers()).map(json.dumps).map(str.encode))
def test_any_bytes_are_a_label_or_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidLabel):
        parse(raw, NOW_US)
