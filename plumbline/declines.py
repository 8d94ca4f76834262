"""Which version would decline so many payments that a person must accept it before it decides."""

from collections.abc import Mapping
from typing import Any, Final

DECLINE_SHARE_MOST: Final = 0.02
"""Share of all payments; at least half of what is declined must have been fraud, so this means fraud in 1 % of them."""


def decline_share(card: Mapping[str, Any]) -> float | None:
    """The share of all payments that a version's thresholds would decline, where it is held for that; else None."""
    costs = card.get("costs") or {}
    share = (costs.get("spent") or {}).get("decline_share")
    most = (costs.get("assumed") or {}).get("decline_share_most", DECLINE_SHARE_MOST)
    return float(share) if share is not None and share > most else None
