"""docs/data.md names every word of a mapping, every fraud pattern and every column of the archive."""

import re
from pathlib import Path

import msgspec
import pytest

from archive.manifest import STORED_SCHEMA
from archive.mapping import AmountField, LabelMapping, Mapping, PlaceField, TextField, TimeField, TransactionMapping
from archive.simulation.frauds import PATTERNS

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([^`\n]+)`", PAGE)) | {
    word for code in re.findall(r"`([^`\n]+)`", PAGE) for word in code.split()
}


@pytest.mark.parametrize(
    "struct", [Mapping, TransactionMapping, TextField, TimeField, AmountField, PlaceField, LabelMapping]
)
def test_every_word_of_a_mapping_is_explained(struct: type[msgspec.Struct]) -> None:
    words = set(struct.__struct_fields__) - {"transaction", "label"}
    assert words <= NAMED


def test_every_pattern_and_label_column_is_explained() -> None:
    assert {pattern.name for pattern in PATTERNS} <= NAMED
    assert set(STORED_SCHEMA["labels"].names) <= NAMED
