"""The pictures of a model card, as SVG that stands in its page: the same bytes from the same scores, and no script.

Words in a picture are few and English, since a picture's width depends on its font; the page tells the rest in both
languages.
"""

import io
from collections.abc import Mapping
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from training.costs import NEVER, Costs, Thresholds, spent
from training.metrics import Array, Float64, ScoredRows, reliability

OURS, OTHER, LINE = "#1f5fbf", "#8a6d00", "#8a94a3"
SIZE: Final = (5.2, 3.4)
PLACE: Final = (0.14, 0.15, 0.83, 0.81)
"""Of the axes, as shares of the picture: left, bottom, width, height."""
POINTS: Final = 400
BINS: Final = 15
EDGES: Final = np.geomspace(1e-6, 1, 61)
SETTINGS: Final[Any] = {
    "svg.hashsalt": "plumbline", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e3e6ea",
    "axes.axisbelow": True,
}  # fmt: skip


def plots(rows: ScoredRows, thresholds: Thresholds, costs: Costs, champion: ScoredRows | None = None) -> dict[str, str]:
    """SVG of `precision_recall`, `reliability`, `scores`, and, with amounts, `costs`, by name.

    rows: with at least one fraud and one genuine row; champion: its scores of the same window, drawn beside.
    """
    sides = {"this version": rows} | ({} if champion is None else {"champion": champion})
    found = {
        "precision_recall": _drawn(lambda axes: _precision_recall(axes, sides)),
        "reliability": _drawn(lambda axes: _reliability(axes, sides)),
        "scores": _drawn(lambda axes: _scores(axes, rows, thresholds)),
    }
    if rows.amounts_minor is not None:
        found["costs"] = _drawn(lambda axes: _costs(axes, rows, thresholds, costs))
    return found


def _precision_recall(axes: Any, sides: Mapping[str, ScoredRows]) -> None:
    for (name, rows), colour in zip(sides.items(), (OURS, OTHER), strict=False):
        recall, precision = curve(rows)
        axes.plot(recall, precision, color=colour, label=name, linewidth=1.6)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(frameon=False)


def curve(rows: ScoredRows) -> tuple[Float64, Float64]:
    """Recall and precision behind each different score from the highest down, thinned to 400 points."""
    order = np.argsort(-rows.scores.astype(np.float64), kind="stable")
    counts, frauds = rows.counted()[order], rows.frauds[order]
    caught, seen = np.cumsum(counts * frauds), np.cumsum(counts)
    scores = rows.scores[order]
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    ends = ends[np.unique(np.linspace(0, 1, POINTS) ** 2 * (len(ends) - 1)).astype(np.int64)]
    return caught[ends] / caught[-1], caught[ends] / seen[ends]


def _reliability(axes: Any, sides: Mapping[str, ScoredRows]) -> None:
    least = 1.0
    for (name, rows), colour in zip(sides.items(), (OURS, OTHER), strict=False):
        counts, expected, found = reliability(rows.frauds, rows.scores, BINS, rows.counted())
        there = (expected > 0) & (found > 0)
        x, y = (expected / counts)[there], (found / counts)[there]
        least = min(least, float(np.min(np.concatenate([x, y]), initial=1.0)))
        axes.plot(x, y, "o-", color=colour, label=name, markersize=3.5, linewidth=1.2)
    axes.plot([least, 1], [least, 1], color=LINE, linewidth=1, linestyle="--", label="score = share of frauds")
    axes.set(xscale="log", yscale="log", xlabel="mean score of a bin", ylabel="share of frauds")
    axes.legend(frameon=False)


def _scores(axes: Any, rows: ScoredRows, thresholds: Thresholds) -> None:
    scores, counts = np.clip(rows.scores.astype(np.float64), EDGES[0], 1), rows.counted()
    frauds: Array = rows.frauds.astype(bool)
    for name, mask, colour in (("genuine", ~frauds, OURS), ("fraud", frauds, "#b3261e")):
        axes.hist(scores[mask], EDGES, weights=counts[mask], histtype="step", color=colour, label=name, linewidth=1.4)
    _mark(axes, thresholds)
    axes.set(xscale="log", yscale="log", xlabel="score", ylabel="transactions")
    axes.legend(frameon=False)


def _costs(axes: Any, rows: ScoredRows, thresholds: Thresholds, costs: Costs) -> None:
    tried = np.geomspace(max(1e-4, float(np.min(rows.scores))), 1, 60)
    whole = float(np.sum(rows.counted()))
    found = [spent(rows, Thresholds(float(at), max(float(at), thresholds.decline_at)), costs) for at in tried]
    for name, values, colour in (
        ("all", [each.cost_minor for each in found], OURS),
        ("fraud", [each.fraud_minor for each in found], "#b3261e"),
        ("reviews", [each.review_minor for each in found], OTHER),
        ("insults", [each.insult_minor for each in found], "#4b7f52"),
    ):
        axes.plot(tried, np.array(values) / whole, color=colour, label=name, linewidth=1.4)
    _mark(axes, thresholds)
    axes.set(xscale="log", xlabel="review from this score on", ylabel="cost a transaction, minor units")
    axes.legend(frameon=False)


def _mark(axes: Any, thresholds: Thresholds) -> None:
    for at, style in ((thresholds.review_at, ":"), (thresholds.decline_at, "--")):
        if at < NEVER:
            axes.axvline(max(at, float(EDGES[0])), color=LINE, linestyle=style, linewidth=1.2)


def _plain_ticks(axes: Any) -> None:
    """Powers of ten as plain numbers and without ticks between: setting formulas is most of the time otherwise."""
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_minor_locator(NullLocator())


def _drawn(draw: Any) -> str:
    """One picture as an `<svg>` element, without the file's head, a date or a script."""
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=SIZE)
        FigureCanvasSVG(figure)
        axes = figure.add_axes(PLACE)
        draw(axes)
        _plain_ticks(axes)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]
