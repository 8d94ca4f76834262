"""What enters history, as the columns that history takes: transactions, and fraud labels in the place of one."""

from collections.abc import Sequence

import msgspec
import numpy as np

from features.sweep import Arrivals, places
from plumbline.decision import Decision
from plumbline.journal import LabelApplied
from plumbline.transaction import Transaction


def arrivals(entries: Sequence[Decision | LabelApplied | Transaction]) -> Arrivals:
    """Transactions and counted labels, in arrival order, as the columns that history takes."""
    rows = [_row(each) if isinstance(each, LabelApplied) else each for each in entries]
    each = [one.transaction if isinstance(one, Decision) else one for one in rows]
    return Arrivals(
        account_ids=[one.account_id for one in each],
        merchant_ids=[one.merchant_id for one in each],
        device_ids=[one.device_id for one in each],
        times=np.array([one.occurred_at for one in each], np.int64),
        amounts=np.array([one.amount_minor for one in each], np.int64),
        latitudes=places([one.latitude_e6 for one in each]),
        longitudes=places([one.longitude_e6 for one in each]),
        is_label=np.array([isinstance(one, LabelApplied) for one in entries], np.bool_),
        occurred_at=np.array(
            [
                entry.occurred_at if isinstance(entry, LabelApplied) else one.occurred_at
                for entry, one in zip(entries, each, strict=True)
            ],
            np.int64,
        ),
    )


class _LabelRow(msgspec.Struct, frozen=True, gc=False):
    """A counted label in the place of a transaction: it has a time and two parties, and nothing else."""

    account_id: str
    merchant_id: str
    occurred_at: int
    device_id: str = ""
    amount_minor: int = 0
    latitude_e6: None = None
    longitude_e6: None = None


def _row(entry: LabelApplied) -> _LabelRow:
    return _LabelRow(entry.account_id, entry.merchant_id, entry.label.known_at)
