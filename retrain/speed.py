"""How large a version's files are and how fast it scores, in this process: two of the figures that the gate judges."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from features.grammar import RAW_STRINGS
from training.evaluate import Loaded

SINGLE_CALLS: Final = 300
WARM_CALLS: Final = 20
ROWS: Final = 64
P99: Final = 99


STEPS_MS: Final = (10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)
"""To one of these a time is rounded up, so that the same model on the same machine has the same figure every time."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Bytes of all files; CPU milliseconds within which 99 of 100 single rows are scored, rounded up to a step."""

    model_bytes: int
    latency_ms: float


def measure(model: Loaded, folder: Path) -> Speed:
    """Time a version that was loaded from a folder, on rows that are made up.

    CPU time of this process is taken: what else runs on the machine has little part in it. Two versions are compared
    in one process, one after another.
    """
    columns = _made_up(model)
    spent = []
    for number in range(WARM_CALLS + SINGLE_CALLS):
        at = number % ROWS
        row = {name: column[at : at + 1] for name, column in columns.items()}
        began = time.process_time()
        model.score(row)
        spent.append(time.process_time() - began)
    return Speed(model_bytes(folder), stepped(1000 * float(np.percentile(spent[WARM_CALLS:], P99))))


def stepped(milliseconds: float) -> float:
    """A time rounded up to one of the steps; beyond the last one as it is.

    >>> stepped(3.2), stepped(10.1), stepped(9000.0)
    (10.0, 20.0, 9000.0)
    """
    return next((step for step in STEPS_MS if milliseconds <= step), milliseconds)


def model_bytes(folder: Path) -> int:
    """Bytes of all files of a version."""
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


def _made_up(model: Loaded) -> dict[str, Any]:
    """Raw inputs of 64 rows that differ from one another."""
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {name: random.integers(1, 1_000_000, ROWS) for name in ("occurred_at", "amount_minor")}
    columns |= {name: np.zeros(ROWS, np.int64) for name in ("latitude_e6", "longitude_e6")}
    columns |= {name: np.array([b"x"] * ROWS, object) for name in RAW_STRINGS}
    history = random.integers(0, 1000, (ROWS, len(model.declaration.history_names)))
    return columns | {"history": history}
