"""A decision as a row of SQL."""

from typing import Any


def decision_row(number: int, **changes: Any) -> dict[str, Any]:
    """Columns of a decision; any can be given by name."""
    return {
        "transaction_id": f"t{number}", "sequence": number, "occurred_at": 1, "account_id": "a", "merchant_id": "m",
        "device_id": "", "amount_minor": 100, "currency": "EUR", "channel": "pos", "mcc": "5411", "country": "DE",
        "outcome": "review", "score": 0.5, "model_version": 1, "policy_version": "p", "fingerprint": "f", "reasons": [],
        "history": [], "source_partition": 0, "source_offset": number, "received_at_ms": 1, "journaled_at_ms": 2,
        "decided_at": 3,
    } | changes  # fmt: skip
