"""Archive rows as the language's own values, for whoever sends them one by one."""

from collections.abc import Iterator

import pyarrow as pa

from plumbline.label import Label
from plumbline.transaction import Transaction


def transactions_of(batch: pa.RecordBatch) -> Iterator[Transaction]:
    """The Transactions of a RecordBatch that has all their columns."""
    columns = [batch.column(name).to_pylist() for name in Transaction.__struct_fields__]
    for values in zip(*columns, strict=True):
        yield Transaction(**dict(zip(Transaction.__struct_fields__, values, strict=True)))


LABEL_FIELDS = ("label_id", "transaction_id", "verdict", "source", "known_at", "note")


def labels_of(batch: pa.RecordBatch) -> Iterator[Label]:
    """The Labels of a RecordBatch that has all their columns."""
    columns = [batch.column(name).to_pylist() for name in LABEL_FIELDS]
    for values in zip(*columns, strict=True):
        yield Label(**dict(zip(LABEL_FIELDS, values, strict=True)))
