"""The page docs/features.md: what the declaration says, in tables."""

from collections.abc import Iterable, Sequence
from typing import Final

from features.declaration import FEATURES, HISTORY, LATENESS_US, TABLES, fingerprint
from plumbline.transaction import DAY_US

OPENING: Final = f"""# Features

Written by `plumbline schemas` from `features/declaration.py`: change that, and run it again. Its fingerprint is
`{fingerprint()}`; it stands in every model, snapshot and journal record, and changes whenever a number changes its
meaning.

## How a number comes about

1. **History** (`features/kernel.py`, compiled): the measures below, int64. A transaction with event time `t` sees
   the entries of its table's key that came before it in arrival order and whose time lies in `(t − window, t]`. It
   is read before it is entered.
2. **Preprocessing** (`features/preprocessing.py`, in the TensorFlow graph): every float. Rows are padded to a
   multiple of 64 first. Numbers are scaled by the mean and deviation of the training window; categories become
   indices, 0 for every value not in the vocabulary.
3. **Batch** (`features/pipeline.py`, Beam): the same kernel key by key, over Arrow tables, for training, backfill
   and audit.

Late and out-of-order transactions count by when they arrived. One that is up to {LATENESS_US // DAY_US} days late
still sees its windows whole.

## To add one

A measure is one line in `HISTORY`: a table, kinds and windows, for example `*measures("merchant", "count sum", "1h
1d 7d 30d")`. The kernel's plan, the feature from it, its words in both languages, the model's inputs and this page
follow. A feature that combines columns is one entry in `FEATURES` with a transform of `features/transforms.py`.
Models and snapshots made before are refused from then on, by their fingerprint: train again, and fold the journal
again.
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
