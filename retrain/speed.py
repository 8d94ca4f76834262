"""How large a version's files are and how fast it scores, in this process: two of the figures that the gate judges."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from features.grammar import RAW_STRINGS
from training.evaluate import Loaded, load_version

SINGLE_CALLS: Final = 400
WARM_CALLS: Final = 20
BULK_ROWS: Final = 512
BULK_CALLS: Final = 20
P99: Final = 99


@dataclass(frozen=True, slots=True)
class Speed:
    """Bytes of all files; milliseconds within which 99 of 100 single rows are scored; rows a second in bulk."""

    model_bytes: int
    latency_ms: float
    rows_per_second: float


def measure(folder: Path, rows: Any = None) -> Speed:
    """Load a version from its folder and time it.

    rows: raw inputs of 512 rows or more, as `features.analysis.raw_columns` has them; made up when not given. Times
    are of this machine and of whatever else runs on it: two versions are compared on one machine, one after another.
    Raises Refused, FingerprintMismatch: see `training.export.declaration_of`.
    """
    model = load_version(folder)
    columns = _made_up(model) if rows is None else {name: column[:BULK_ROWS] for name, column in rows.items()}
    singles = []
    for number in range(WARM_CALLS + SINGLE_CALLS):
        at = number % len(columns["history"])
        row = {name: column[at : at + 1] for name, column in columns.items()}
        began = time.perf_counter()
        model.score(row)
        singles.append(time.perf_counter() - began)
    bulk = []
    for _ in range(BULK_CALLS):
        began = time.perf_counter()
        model.score(columns)
        bulk.append(time.perf_counter() - began)
    return Speed(
        model_bytes=model_bytes(folder),
        latency_ms=1000 * float(np.percentile(singles[WARM_CALLS:], P99)),
        rows_per_second=len(columns["history"]) / float(np.median(bulk)),
    )


def model_bytes(folder: Path) -> int:
    """Bytes of all files of a version."""
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


def _made_up(model: Loaded) -> dict[str, Any]:
    """Raw inputs of 512 rows that differ from one another."""
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {
        name: random.integers(1, 1_000_000, BULK_ROWS) for name in ("occurred_at", "amount_minor")
    }
    columns |= {name: np.zeros(BULK_ROWS, np.int64) for name in ("latitude_e6", "longitude_e6")}
    columns |= {name: np.array([b"x"] * BULK_ROWS, object) for name in RAW_STRINGS}
    history = random.integers(0, 1000, (BULK_ROWS, len(model.declaration.history_names)))
    return columns | {"history": history}
