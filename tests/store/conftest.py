"""Rows for the store's tests."""

from collections.abc import Callable
from typing import Any

import pytest

from store.tables import Decision


@pytest.fixture
def stored_decision() -> Callable[..., Decision]:
    """A function that makes one decision; any column can be given by name."""

    def make(transaction_id: str, sequence: int, **columns: Any) -> Decision:
        usual: dict[str, Any] = {
            "occurred_at": 1_700_000_000_000_000 + sequence,
            "account_id": "acc_1",
            "merchant_id": "mer_1",
            "device_id": "",
            "amount_minor": 100,
            "currency": "EUR",
            "channel": "pos",
            "mcc": "5411",
            "country": "DE",
            "outcome": "review",
            "score": 0.5,
            "model_version": 1,
            "policy_version": "default",
            "fingerprint": "0123456789abcdef",
            "reasons": [],
            "history": [1, 2**63 - 1, -(2**63)],
            "source_partition": 0,
            "source_offset": sequence,
            "received_at_ms": 1_700_000_000_000,
            "journaled_at_ms": 1_700_000_000_004,
            "decided_at": 1_700_000_000_002_000,
            "assignment": "",
            "route": "newest",
        }
        return Decision(transaction_id=transaction_id, sequence=sequence, **{**usual, **columns})

    return make
