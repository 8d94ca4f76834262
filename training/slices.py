"""Metrics of parts of the test rows, by channel and by band of amounts: an average can hide that a model is blind."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq

from training.metrics import Array, ScoredRows, average_precision, brier, roc_auc

AMOUNT_EDGES_MINOR: Final = (2_000, 10_000, 50_000, 200_000)
"""Bands begin at these amounts, in minor units of whatever currency."""


def slices(file: Path, scored: ScoredRows) -> dict[str, dict[str, float]]:
    """Metrics by slice, named `channel=pos` or `amount_minor=2000..10000`; file: where the scored rows came from.

    The file's rows are those scored, in that order. Every slice has `rows` and `frauds`; `auc` and `ap` need at least
    one fraud and one genuine row. Accounts known to be defrauded are among them, other than in the overall metrics.
    """
    table = pq.read_table(file, columns=["channel", "amount_minor"])
    channels = np.array(table["channel"].to_pylist(), np.str_)
    bands = np.searchsorted(AMOUNT_EDGES_MINOR, np.asarray(table["amount_minor"]), side="right")
    found = {f"channel={each}": _measured(scored, channels == each) for each in np.unique(channels).tolist()}
    edges = (0, *AMOUNT_EDGES_MINOR)
    for number, low in enumerate(edges):
        high = str(edges[number + 1]) if number + 1 < len(edges) else ""
        if (bands == number).any():
            found[f"amount_minor={low}..{high}"] = _measured(scored, bands == number)
    return found


def _measured(scored: ScoredRows, mask: Array) -> dict[str, float]:
    frauds: Any = scored.frauds[mask]
    scores = scored.scores[mask]
    found = {
        "rows": float(len(frauds)),
        "frauds": float(np.count_nonzero(frauds)),
        "brier": brier(frauds, scores),
        "mean_score": float(np.mean(scores, dtype=np.float64)),
    }
    if frauds.any() and not frauds.all():
        found |= {"auc": roc_auc(frauds, scores), "ap": average_precision(frauds, scores)}
    return found
