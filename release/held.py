"""A version whose thresholds would decline more than a stated share of payments decides only once a person accepted it.

What the thresholds would decline on the test days, and the share above which a version is held
(`Costs.decline_share_most`), stand in its card. The acceptance is part of the request, and so of every change it makes.
"""

from typing import Any, Final

from plumbline.declines import DECLINE_SHARE_MOST, decline_share
from plumbline.errors import Refused
from store.model_tables import ModelRequest, ModelVersion

ACCEPTED: Final = "accepted_decline_share"


def warning(version: ModelVersion) -> str:
    """Why a version is held, in a sentence; empty where it is not."""
    share = decline_share(version.card)
    if share is None:
        return ""
    most = (version.card["costs"].get("assumed") or {}).get("decline_share_most", DECLINE_SHARE_MOST)
    return (
        f"version {version.version} would decline {share:.2%} of all payments under its thresholds, more than "
        f"{most:.2%} (`decline_share_most`)"
    )


def acceptance(version: ModelVersion, by: str) -> dict[str, Any]:
    """What a request says of a held version that somebody accepts; empty where it is not held."""
    share = decline_share(version.card)
    return {} if share is None else {ACCEPTED: {"version": version.version, "share": share, "by": by}}


def require_accepted(version: ModelVersion, request: ModelRequest) -> None:
    """Raise Refused for a held version, unless the request says who accepted the share that its card has."""
    accepted = (request.evidence or {}).get(ACCEPTED) or {}
    share = decline_share(version.card)
    if share is not None and (accepted.get("version"), accepted.get("share")) != (version.version, share):
        raise Refused(
            f"{warning(version)}: train it with other costs, or ask with `plumbline models promote {version.version} "
            "--accept-declines`, which records who accepted it"
        )
