"""Offline evaluation: rows with their batch history, scored by an exported version in this process."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf

from features.analysis import Columns
from features.grammar import Declaration
from plumbline.policy import Policy
from training.dataset import row_batches
from training.export import declaration_of
from training.metrics import Array, ScoredRows, capacity

Tensor = Any

REVIEW_SHARE: Final = 0.005
"""Share of transactions that the suggested policy sends to people."""
DECLINE_PRECISION: Final = 0.9
"""Share of frauds among the transactions that it declines."""
DECLINE_LEAST: Final = 20
NEVER: Final = 2.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """An exported version in memory, and the declaration that it was trained under."""

    model: Any
    declaration: Declaration

    def call(self, name: str, columns: Columns) -> dict[str, Array]:
        """A signature's outputs as arrays; columns: the raw inputs, [n] or [n, H]."""
        outputs = self.model.signatures[name](**{each: tf.constant(column) for each, column in columns.items()})
        return {each: output.numpy() for each, output in outputs.items()}

    def score(self, columns: Columns) -> Array:
        """Scores float32 [n]."""
        return self.call("serving_default", columns)["score"]


def load(folder: Path, declaration: Declaration) -> Loaded:
    """A SavedModel from its folder."""
    return Loaded(tf.saved_model.load(str(folder)), declaration)


def load_version(folder: Path) -> Loaded:
    """A published version from its folder. Raises Refused, FingerprintMismatch: see `declaration_of`."""
    return load(folder, declaration_of(folder))


def score_rows(file: Path, version: Loaded) -> ScoredRows:
    """The rows of a file, scored by a version under whose declaration they were written, and the truth in the file."""
    return _joined(list(_scored(file, version)))


def suggest(rows: ScoredRows, version: str, review_share: float = REVIEW_SHARE) -> Policy:
    """A policy for scores like these: what is declined was fraud in nine cases of ten, what comes next is reviewed.

    review_share: share of all rows, those with the highest scores below the declined ones, that people can look at.
    Nothing is declined for its score alone where fewer than 20 rows would be.
    """
    order = np.argsort(-rows.scores.astype(np.float64), kind="stable")
    scores, frauds = rows.scores[order].astype(np.float64), rows.frauds[order]
    precision = np.cumsum(frauds) / np.arange(1, len(frauds) + 1)
    last_of_score = np.append(scores[1:] != scores[:-1], True)
    ends = np.flatnonzero((precision >= DECLINE_PRECISION) & last_of_score) + 1
    declined = int(ends[-1]) if len(ends) and ends[-1] >= DECLINE_LEAST else 0
    reviewed = min(declined + capacity(len(scores), review_share), len(scores))
    decline_at = float(scores[declined - 1]) if declined else NEVER
    return Policy(version=version, review_at=float(scores[reviewed - 1]), decline_at=decline_at)


def _scored(file: Path, version: Loaded) -> Iterator[ScoredRows]:
    for columns, batch in row_batches(file, version.declaration):
        yield ScoredRows(
            transaction_ids=_strings(batch.column("transaction_id")),
            occurred_at=np.asarray(batch.column("occurred_at"), dtype=np.int64),
            accounts=_strings(batch.column("account_id")),
            scores=version.score(columns),
            frauds=np.asarray(batch.column("fraud")),
        )


def _strings(column: Any) -> Array:
    return np.array(column.to_pylist(), dtype=np.str_)


def _joined(parts: list[ScoredRows]) -> ScoredRows:
    columns = [
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("transaction_ids", "occurred_at", "accounts", "scores", "frauds")
    ]
    return ScoredRows(*columns)
