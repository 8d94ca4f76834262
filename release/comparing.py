"""Two registered versions side by side: what they were made of, how good they were, and how alike they score."""

from typing import Any

from sqlalchemy.orm import Session

from store.arms import score_pairs
from store.model_tables import ModelVersion
from store.models import model_version

FACTS = ("stage", "made_by", "fingerprint", "train_days", "test_days", "archive_digest", "seed", "code_commit",
         "lock_sha256", "rows")  # fmt: skip
PAIRS_MOST = 10_000


def compared(session: Session, one: int, other: int) -> dict[str, Any]:
    """What differs between two versions, as JSON. Raises ModelVersionNotFound."""
    a, b = model_version(session, one), model_version(session, other)
    return {
        "versions": [one, other],
        "facts": {name: [getattr(a, name), getattr(b, name)] for name in FACTS if getattr(a, name) != getattr(b, name)},
        "metrics": _both(a.metrics, b.metrics),
        "slices": {
            name: _both(a.slices.get(name, {}), b.slices.get(name, {})) for name in sorted({*a.slices, *b.slices})
        },
        "files": _files(a, b),
        "agreement": agreement(session, one, other),
    }  # fmt: skip


def agreement(session: Session, one: int, other: int) -> dict[str, Any] | None:
    """How alike two versions scored the newest transactions that one decided and the other saw as a shadow.

    None where there is no such transaction.
    """
    pairs = score_pairs(session, one, other, PAIRS_MOST)
    if not pairs:
        return None
    distances = [abs(a - b) for a, b in pairs]
    return {
        "compared": len(pairs),
        "equal": sum(a == b for a, b in pairs),
        "mean_distance": sum(distances) / len(distances),
        "max_distance": max(distances),
    }


def _both(one: dict[str, float], other: dict[str, float]) -> dict[str, list[float | None]]:
    return {name: [one.get(name), other.get(name)] for name in sorted({*one, *other})}


def _files(one: ModelVersion, other: ModelVersion) -> dict[str, list[str | None]]:
    names = sorted({*one.files, *other.files})
    return {name: [one.files.get(name), other.files.get(name)] for name in names
            if one.files.get(name) != other.files.get(name)}  # fmt: skip
