"""Bit by bit: what was journaled against what the batch path says, layer by layer."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from audit.batch_path import Versions, inputs
from features.declaration import HISTORY_NAMES
from features.history import Integers
from plumbline.decision import Decision
from plumbline.policy import Policy, decide

LAYERS: Final = ("history", "features", "score", "outcome")
SHOWN_MOST: Final = 100


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not the same; both in hexadecimal, as their bits."""

    sequence: int
    transaction_id: str
    layer: str
    name: str
    journaled: str
    recomputed: str


@dataclass(slots=True)
class Report:
    """How many decisions were compared in each layer, how many differ, and the first hundred differences."""

    first_sequence: int | None = None
    last_sequence: int | None = None
    compared: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LAYERS, 0))
    different: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LAYERS, 0))
    unscored: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def decisions(self) -> int:
        """Decisions compared."""
        return self.compared["history"]

    @property
    def decisions_different(self) -> int:
        """Differing decisions, counted once a layer; 0 is the promise."""
        return sum(self.different.values())


def compare(
    report: Report,
    decisions: Sequence[tuple[int, Decision]],
    history: Integers,
    found: np.ndarray,
    policies: dict[str, Policy],
    versions: Versions,
) -> None:
    """Compare a chunk of decisions and add to the report.

    history: int64 [n, measures], the batch path's; found: bool [n], whether it has the row at all.
    """
    if not decisions:
        return
    report.first_sequence = decisions[0][0] if report.first_sequence is None else report.first_sequence
    report.last_sequence = decisions[-1][0]
    _compare_history(report, decisions, history, found)
    by_version: dict[int, list[int]] = {}
    for n, (_, decision) in enumerate(decisions):
        if decision.scores:
            by_version.setdefault(decision.scores[0].model_version, []).append(n)
        else:
            report.unscored += 1
    scores: dict[int, float] = {}
    for version, rows in by_version.items():
        scores |= _compare_model(report, decisions, history, rows, version, versions)
    for n, (sequence, decision) in enumerate(decisions):
        report.compared["outcome"] += 1
        policy = policies.get(decision.policy_version)
        if policy is None:
            _differs(report, sequence, decision, "outcome", "policy_version", decision.policy_version, "not journaled")
            continue
        outcome, _ = decide(decision.transaction, scores.get(n), policy)
        if outcome is not decision.outcome:
            _differs(report, sequence, decision, "outcome", "outcome", decision.outcome.value, outcome.value)


def _compare_history(
    report: Report, decisions: Sequence[tuple[int, Decision]], history: Integers, found: np.ndarray
) -> None:
    journaled = np.array([decision.history for _, decision in decisions], np.int64)
    unequal = journaled != history
    for n, (sequence, decision) in enumerate(decisions):
        report.compared["history"] += 1
        if not found[n]:
            _differs(report, sequence, decision, "history", "row", "present", "absent")
        elif unequal[n].any():
            at = int(np.flatnonzero(unequal[n])[0])
            _differs(
                report, sequence, decision, "history", HISTORY_NAMES[at],
                _bits(int(journaled[n, at])), _bits(int(history[n, at])),
            )  # fmt: skip


def _compare_model(
    report: Report,
    decisions: Sequence[tuple[int, Decision]],
    history: Integers,
    rows: Sequence[int],
    version: int,
    versions: Versions,
) -> dict[int, float]:
    """Features and scores of the rows that one version scored; returns the batch path's scores by row."""
    model = versions.loaded(version)
    chosen = [decisions[n] for n in rows]
    transactions = [decision.transaction for _, decision in chosen]
    recomputed = inputs(transactions, history[rows])
    journaled = inputs(transactions, np.array([decision.history for _, decision in chosen], np.int64))
    ours, theirs = model.call("transform", recomputed), model.call("transform", journaled)
    for name, values in ours.items():
        for n in np.flatnonzero(_unequal(values, theirs[name])).tolist():
            sequence, decision = chosen[n]
            _differs(report, sequence, decision, "features", name, _bits(theirs[name][n]), _bits(values[n]))
    report.compared["features"] += len(chosen)
    values = model.score(recomputed)
    scored = np.array([decision.scores[0].value for _, decision in chosen], np.float64)
    for n in np.flatnonzero(_unequal(values.astype(np.float64), scored)).tolist():
        sequence, decision = chosen[n]
        _differs(report, sequence, decision, "score", f"version {version}", _bits(np.float64(scored[n])),
                 _bits(np.float64(values[n])))  # fmt: skip
    report.compared["score"] += len(chosen)
    return dict(zip(rows, values.astype(np.float64).tolist(), strict=True))


def _unequal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where two arrays of one type differ in any bit, so that -0.0 is not 0.0 and a NaN equals itself."""
    if a.dtype != b.dtype:
        return np.ones(len(a), np.bool_)
    unsigned = np.dtype(f"u{a.dtype.itemsize}")
    different: np.ndarray = np.ascontiguousarray(a).view(unsigned) != np.ascontiguousarray(b).view(unsigned)
    return different


def _bits(value: Any) -> str:
    """The bits of an int64, float32 or float64 in hexadecimal, and the value as people read it."""
    if isinstance(value, np.floating):
        code = ">f" if value.dtype.itemsize == 4 else ">d"
        return f"0x{struct.pack(code, value).hex()} ({value})"
    return f"0x{struct.pack('>q', int(value)).hex()} ({value})"


def _differs(
    report: Report, sequence: int, decision: Decision, layer: str, name: str, journaled: str, recomputed: str
) -> None:
    report.different[layer] += 1
    if len(report.differences) < SHOWN_MOST:
        found = Difference(sequence, decision.transaction.transaction_id, layer, name, journaled, recomputed)
        report.differences.append(found)
