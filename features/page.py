"""The page docs/declaration.md: what the declaration says, in tables."""

from collections.abc import Iterable, Sequence
from typing import Final

from features.declaration import FEATURES, HISTORY, TABLES, fingerprint

OPENING: Final = f"""# The declaration in tables

Written by `plumbline schemas` from `features/declaration.py`; [features](features.md) says what it means. Fingerprint:
`{fingerprint()}`.
"""


def page() -> str:
    """The whole page as Markdown."""
    tables = [
        (each.name, each.entity, each.stream, str(each.bound or "all, as one bit"), each.distinct or "")
        for each in TABLES
    ]
    measures = [(each.name, each.window, each.text_en, each.text_zh) for each in HISTORY]
    features = [
        (each.name, each.transform, ", ".join(each.inputs), each.reason_en, each.reason_zh) for each in FEATURES
    ]
    sections = {
        "Tables": _table(("Table", "Key", "Entries", "Newest entries kept", "Distinct"), tables),
        f"Measures ({len(HISTORY)})": _table(("Measure", "Window", "Meaning", "含义"), measures),
        f"Features ({len(FEATURES)})": _table(("Feature", "Transform", "From", "Reason", "原因"), features),
    }
    return OPENING + "".join(f"\n## {title}\n\n{table}\n" for title, table in sections.items())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([f"`{row[0]}`", *row[1:]] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
