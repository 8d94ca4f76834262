"""What features and scores looked like when a model was made: counts in bins, kept beside it to compare the world with.

The first bin holds the rows in which the feature had nothing to go by (features.missing). The others part all values at
the edges: up to the first one, from there up to the second, ..., above the last. So every value there can be, the
infinite ones too, lies in exactly one bin, and counts of different rows can be added and compared.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from features.grammar import Declaration
from plumbline.errors import NotFound, Refused

REFERENCE_NAME: Final = "reference.json"

TENTHS: Final = tuple(n / 10 for n in range(1, 10))
HEAVY_SHARE: Final = 0.1
SCORE_QUANTILES: Final = (*TENTHS, 0.95, 0.98, 0.99, 0.995)
"""Where decisions fall is the top of the scores, which tenths alone would leave in one bin."""

CATEGORY_SHARE_LEAST: Final = 0.01
CATEGORIES_MOST: Final = 20
"""A category with fewer rows, or beyond so many, shares a bin with all such: small bins tell of chance."""

Counts = npt.NDArray[np.int64]


class Binned(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One feature's rows in bins; edges: ascending; counts: missing rows first, then len(edges) + 1 bins of values.

    words: what the bins of a category stand for, as many as those have; empty for numbers and for the rest of them.
    """

    name: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.edges) + 2 or list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"{self.name}: {len(self.counts)} counts do not fit the edges {self.edges}")


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model version's features over its training days, and its scores over the days that tested it.

    declaration: the one that the version was trained under; features: in its order.
    """

    declaration: Declaration
    train: str
    test: str
    features: tuple[Binned, ...]
    score: Binned

    def __post_init__(self) -> None:
        if tuple(each.name for each in self.features) != self.declaration.feature_names:
            raise ValueError("features are not those of the declaration, in its order")


def edges_of_numbers(values: npt.NDArray[Any], quantiles: Sequence[float] = TENTHS) -> tuple[float, ...]:
    """The different quantiles of the values, each a value that occurs, without the largest value of all.

    A value that a tenth of the rows have gets a bin of its own, so that neither it nor the few beside it are hidden.
    """
    if not len(values):
        return ()
    different, rows = np.unique(values, return_counts=True)
    heavy = np.flatnonzero(rows >= HEAVY_SHARE * len(values))
    below = different[heavy[heavy > 0] - 1]
    found = np.unique(np.concatenate([np.quantile(values, quantiles, method="inverted_cdf"), below]))
    return tuple(found[found < different[-1]].astype(np.float64).tolist())


def edges_of_categories(indices: npt.NDArray[Any]) -> tuple[float, ...]:
    """Edges that give each of the most frequent categories a bin of its own; indices: 1 for the most frequent one."""
    known = np.bincount(indices[indices > 0])[1 : CATEGORIES_MOST + 1]
    frequent = known >= max(CATEGORY_SHARE_LEAST * len(indices), 1)
    own = len(known) if frequent.all() else int(np.argmin(frequent))
    return tuple(float(index) for index in range(1, own + 1))


def counted(edges: Sequence[float], values: npt.NDArray[Any], missing: npt.NDArray[np.bool_]) -> Counts:
    """Rows by bin, int64 [len(edges) + 2]; values: float or int [n], missing: bool [n]. NaN counts as missing."""
    missing = missing | np.isnan(values)
    bins = np.searchsorted(np.asarray(edges, np.float64), values.astype(np.float64), side="left") + 1
    return np.bincount(np.where(missing, 0, bins), minlength=len(edges) + 2).astype(np.int64)


def reference_file(version: Path) -> Path:
    """Where a model version keeps its reference; version: the version's folder."""
    return version / "assets.extra" / REFERENCE_NAME


def read_reference(version: Path) -> Reference:
    """The reference of a model version, from the version's folder; raises NotFound where there is none, or Refused."""
    file = reference_file(version)
    try:
        return msgspec.json.decode(file.read_bytes(), type=Reference)
    except FileNotFoundError:
        raise NotFound(
            f"{file} is not there: the version was trained by an older release, or its files are elsewhere; train a "
            "new version, or name the folder with --models-dir"
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise Refused(f"{file} cannot be read ({error}): bring the version's files again") from error
