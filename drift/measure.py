"""A drift run: the journal's decisions of a window, counted in the bins that training left, one version at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from drift.stability import Figure, Level, Limits, figure, is_judged, worst
from drift.values import ROWS_A_CALL, Transform, Values
from drift.window import Window
from features.missing import missing
from features.reference import Counts, Reference, counted, read_reference
from plumbline.decision import Decision
from plumbline.errors import NotFound
from serving.columns import ModelColumns
from streaming.batch import model_columns


@dataclass(frozen=True, slots=True)
class Drift:
    """What a window looked like to one model version; features in the declaration's order."""

    model_version: int
    train: str
    compared: int
    score: Figure
    features: tuple[Figure, ...]

    @property
    def level(self) -> Level:
        """The worst level of any feature or of the score."""
        return worst([each.level for each in (self.score, *self.features)])

    @property
    def worst_feature(self) -> Figure | None:
        """The judged feature with the largest PSI; None where there were too few decisions."""
        judged = [each for each in self.features if each.psi is not None and each.level != "cycle"]
        return max(judged, key=lambda each: each.psi or 0.0, default=None)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run found: a Drift a version, shadows too; the one that made the newest decision comes last.

    not_compared: versions without a reference, or that nobody can ask for features any more, and why; unscored and
    other_declaration: decisions without a score, or without a history of the version's declaration.
    """

    window: Window
    drifts: tuple[Drift, ...]
    unscored: int = 0
    other_declaration: int = 0
    not_compared: Mapping[int, str] = field(default_factory=dict)


_Row = tuple[Decision, float]
"""A decision, and what the version in question scored it, deciding or as a shadow."""


@dataclass(slots=True)
class _Counting:
    """A version's counts so far; chunks are added up, so that a window of any size takes the same memory."""

    reference: Reference
    features: dict[str, Counts]
    score: Counts
    earliest_us: int = 2**62
    latest_us: int = 0

    def add(self, scores: Sequence[float], columns: ModelColumns, values: Values) -> None:
        declaration = self.reference.declaration
        place = {name: index for index, name in enumerate(declaration.history_names)}

        def column(name: str) -> Any:
            return columns.history[:, place[name]] if name in place else getattr(columns, name)

        for binned, feature in zip(self.reference.features, declaration.features, strict=True):
            mine = values[feature.name]
            self.features[feature.name] += counted(binned.edges, mine, missing(feature, mine, column))
        given = np.array(scores, np.float64)
        self.score += counted(self.reference.score.edges, given, np.zeros(len(given), np.bool_))
        self.earliest_us = min(self.earliest_us, int(columns.occurred_at.min()))
        self.latest_us = max(self.latest_us, int(columns.occurred_at.max()))


def measure(
    window: Window, chunks: Iterator[list[Decision]], transform: Transform, models: Path, limits: Limits
) -> Measured:
    """Count every scored decision by the version that scored it, and compare with that version's reference.

    models: base path of the versions, whose folders hold the references. Raises Retryable.
    """
    countings: dict[int, _Counting] = {}
    left_out: dict[int, str] = {}
    unscored = other = deciding = 0
    for chunk in chunks:
        by_version: dict[int, list[_Row]] = {}
        for each in chunk:
            unscored += not each.scores
            deciding = each.scores[0].model_version if each.scores else deciding
            for score in each.scores:
                by_version.setdefault(score.model_version, []).append((each, score.value))
        for version, rows in by_version.items():
            if version in left_out:
                continue
            try:
                counting = countings.get(version) or _begin(models / str(version))
                other += _count(counting, rows, transform, version)
            except NotFound as error:
                left_out[version] = str(error)
                countings.pop(version, None)
                continue
            countings[version] = counting
    order = sorted(countings, key=lambda version: (version == deciding, version))
    drifts = tuple(_drift(version, countings[version], limits) for version in order)
    return Measured(window, drifts, unscored, other, left_out)


def _begin(version: Path) -> _Counting:
    reference = read_reference(version)
    empty = {each.name: np.zeros(len(each.counts), np.int64) for each in reference.features}
    return _Counting(reference, empty, np.zeros(len(reference.score.counts), np.int64))


def _count(counting: _Counting, rows: Sequence[_Row], transform: Transform, version: int) -> int:
    """Count rows of a version; returns how many could not be, for want of a history of the version's declaration."""
    declaration = counting.reference.declaration
    found = [(each, score, each.history_of(declaration.fingerprint)) for each, score in rows]
    fit = [(each, score, history) for each, score, history in found if history is not None]
    for begin in range(0, len(fit), ROWS_A_CALL):
        some = fit[begin : begin + ROWS_A_CALL]
        history = np.array([past for _, _, past in some], np.int64)
        columns = model_columns([each.transaction for each, _, _ in some], history)
        counting.add([score for _, score, _ in some], columns, transform(columns, declaration.feature_names, version))
    return len(found) - len(fit)


def _drift(version: int, counting: _Counting, limits: Limits) -> Drift:
    span_us = counting.latest_us - counting.earliest_us
    found = tuple(
        figure(binned, counting.features[feature.name].tolist(), limits, judged=is_judged(feature, span_us))
        for binned, feature in zip(counting.reference.features, counting.reference.declaration.features, strict=True)
    )
    score = figure(counting.reference.score, counting.score.tolist(), limits)
    return Drift(version, counting.reference.train, sum(score.now), score, found)
