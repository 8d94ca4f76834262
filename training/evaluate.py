"""Offline evaluation: rows with their batch history, scored by an exported version in this process."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from features.analysis import Columns
from features.grammar import Declaration
from training.dataset import row_batches
from training.files import declaration_of
from training.metrics import Array, ScoredRows
from training.slices import are_new

Tensor = Any


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


def score_rows(file: Path, version: Loaded, first_seen_us: Mapping[str, int] | None = None) -> ScoredRows:
    """The rows of a file, scored by a version under whose declaration they were written, and the truth in the file.

    file: as `training.dataset.write_rows` leaves it; a column `weight` says how many rows each stands for;
    first_seen_us: see `training.slices.first_seen`; without it nobody knows which accounts are new.
    """
    return _joined(list(_scored(file, version, first_seen_us)))


def _scored(file: Path, version: Loaded, first_seen_us: Mapping[str, int] | None) -> Iterator[ScoredRows]:
    for columns, batch in row_batches(file, version.declaration):
        accounts = _strings(batch.column("account_id"))
        occurred_at = np.asarray(batch.column("occurred_at"), dtype=np.int64)
        weighted = "weight" in batch.schema.names
        yield ScoredRows(
            transaction_ids=_strings(batch.column("transaction_id")),
            occurred_at=occurred_at,
            accounts=accounts,
            scores=version.score(columns),
            frauds=np.asarray(batch.column("fraud")),
            weights=np.asarray(batch.column("weight"), dtype=np.float64) if weighted else None,
            amounts_minor=np.asarray(batch.column("amount_minor"), dtype=np.int64),
            channels=_strings(batch.column("channel")),
            countries=_strings(batch.column("country")),
            new_accounts=None if first_seen_us is None else are_new(accounts, occurred_at, first_seen_us),
        )


def _strings(column: Any) -> Array:
    return np.array(column.to_pylist(), dtype=np.str_)


def _joined(parts: list[ScoredRows]) -> ScoredRows:
    columns = {each.name: [getattr(part, each.name) for part in parts] for each in fields(ScoredRows)}
    known = {name: found for name, found in columns.items() if found[0] is not None}
    return ScoredRows(**{name: np.concatenate(found) for name, found in known.items()})
