"""JSON Schemas of the records of every topic, made from the types that parse and write them."""

import json
from typing import Any, Final

import msgspec

from plumbline.control import Control
from plumbline.journal import DeadLetter, Entry
from plumbline.label import Label
from plumbline.names import Topic
from plumbline.transaction import Transaction

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

RECORDS: Final[dict[Topic, Any]] = {
    Topic.TRANSACTIONS: Transaction,
    Topic.LABELS: Label,
    Topic.CONTROL: Control,
    Topic.DECISIONS: Entry,
    Topic.DEAD_LETTER: DeadLetter,
}
"""The type of every topic's records; `scorer-lease` carries none, its assignment alone matters."""


def documents() -> dict[str, str]:
    """File name to JSON text, one a topic; the same types give the same text, byte for byte."""
    return {
        f"{topic.value}.json": json.dumps(
            {"$schema": DIALECT, "title": topic.value, **msgspec.json.schema(record)}, indent=2, ensure_ascii=False
        )
        + "\n"
        for topic, record in RECORDS.items()
    }
