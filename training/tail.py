"""The newest rows of an archive as a model takes them, with no training around: for whoever tries a version out."""

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from archive.layout import Archive
from features.analysis import Columns, raw_columns
from features.declaration import DECLARATION
from features.grammar import ABSENT, RAW_INTEGERS, RAW_STRINGS, Declaration
from features.sweep import Arrivals, History, places
from plumbline.errors import InvalidArchive

BEFORE: Final = 4
"""For each row wanted, so many transactions are swept: the earlier ones give the wanted ones a past."""

_COLUMNS: Final = ("sequence", "account_id", "merchant_id", "device_id", *RAW_INTEGERS, *RAW_STRINGS)
_LABEL_COLUMNS: Final = (
    "sequence",
    "transaction_id",
    "account_id",
    "merchant_id",
    "known_at",
    "occurred_at",
    "verdict",
)


def newest_rows(archive: Archive, rows: int, declaration: Declaration = DECLARATION) -> Columns:
    """Raw inputs of an archive's last transactions, `rows` of them or all; one sweep over somewhat more gives history.

    So history is of the kernel and realistic, and shorter than what a scorer would remember.
    Raises InvalidArchive when there is no transaction.
    """
    times = [np.asarray(batch.column(0)) for batch in archive.transactions(columns=("occurred_at",))]
    if not times:
        raise InvalidArchive(f"archive {archive.path}", "transactions", 0, "one or more")
    since_us = int(np.concatenate(times)[-BEFORE * rows :][0])
    paid = pa.Table.from_batches(archive.transactions(since_us, columns=_COLUMNS))
    told = archive.labels(since_us, columns=_LABEL_COLUMNS)
    told = _first_of_each(told.filter(pc.equal(told["verdict"], "fraud")))
    arrivals = _merged(paid, told)
    history = History(declaration).advance(arrivals)[~arrivals.is_label][-rows:]
    last = paid.slice(max(0, paid.num_rows - rows))
    for name, column in zip(declaration.history_names, history.T, strict=True):
        last = last.append_column(name, pa.array(column))
    return raw_columns(last.combine_chunks(), declaration)


def _first_of_each(told: pa.Table) -> pa.Table:
    """The first label of each transaction: a second one changes no history."""
    first: dict[str, int] = {}
    for row, transaction_id in enumerate(told["transaction_id"].to_pylist()):
        first.setdefault(transaction_id, row)
    return told.take(pa.array(first.values(), pa.int64()))


def _merged(paid: pa.Table, told: pa.Table) -> Arrivals:
    order = np.argsort(np.concatenate([paid["sequence"].to_numpy(), told["sequence"].to_numpy()]), kind="stable")
    rows, labels = paid.num_rows, told.num_rows

    def both(of_paid: Any, of_told: Any) -> Any:
        return np.concatenate([np.asarray(of_paid), np.asarray(of_told)])[order]

    absent = np.full(labels, ABSENT, np.int64)
    return Arrivals(
        account_ids=both(paid["account_id"], told["account_id"]).tolist(),
        merchant_ids=both(paid["merchant_id"], told["merchant_id"]).tolist(),
        device_ids=both(paid["device_id"], np.full(labels, "", object)).tolist(),
        times=both(paid["occurred_at"], told["known_at"]).astype(np.int64),
        amounts=both(paid["amount_minor"], np.zeros(labels, np.int64)),
        latitudes=both(places(paid["latitude_e6"].to_pylist()), absent),
        longitudes=both(places(paid["longitude_e6"].to_pylist()), absent),
        is_label=both(np.zeros(rows, np.bool_), np.ones(labels, np.bool_)),
        occurred_at=both(paid["occurred_at"], told["occurred_at"]).astype(np.int64),
    )
