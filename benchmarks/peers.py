"""The models that ours is measured against, on the same rows and the same features, and how they are tuned.

Each has a small grid, all of it below. A setting is chosen by its mean average precision over validation folds that lie
before the tested days; then it is fitted on each fold's training rows. Numbers come scaled from the exported graph;
trees take a category as its index, which orders values by how frequent they are; logistic regression takes one column
a value.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np

from training.dataset import Examples
from training.metrics import Array, average_precision

Setting = Mapping[str, Any]

GRIDS: Final[Mapping[str, Mapping[str, Sequence[Any]]]] = {
    "logistic_regression": {"C": (0.01, 0.1, 1.0)},
    "random_forest": {"max_depth": (20, None), "max_features": ("sqrt", 0.3)},
    "xgboost": {"max_depth": (3, 5), "learning_rate": (0.05, 0.1), "trees": (50, 100, 200, 400)},
    "lightgbm": {"num_leaves": (7, 15), "learning_rate": (0.04, 0.08), "trees": (50, 100, 200, 400)},
}
PEERS: Final = tuple(GRIDS)


class Scorer(Protocol):
    """A fitted peer."""

    def __call__(self, rows: Examples, trees: int | None = None) -> Array:
        """Scores float64 [n] in [0, 1] of n rows; by the first `trees` trees where it has trees in a row."""


def settings(peer: str) -> Iterator[Setting]:
    """Every setting of a peer's grid."""
    grid = GRIDS[peer]
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def tune(peer: str, folds: Sequence[tuple[Examples, Examples]]) -> tuple[Setting, float]:
    """The setting with the highest mean average precision over folds of (training, validation) rows, and that mean.

    Boosted trees are fitted once for all numbers of trees: the first k of them are the model of k.
    """
    found: dict[tuple[tuple[str, Any], ...], list[float]] = {}
    by_fit: dict[tuple[tuple[str, Any], ...], list[Setting]] = {}
    for each in settings(peer):
        by_fit.setdefault(tuple((k, v) for k, v in each.items() if k != "trees"), []).append(each)
    for learn, check in folds:
        for members in by_fit.values():
            most = max(members, key=lambda each: each.get("trees", 0))
            scorer = fit_peer(peer, most, learn, 0)
            for each in members:
                scores = scorer(check, each.get("trees"))
                found.setdefault(tuple(each.items()), []).append(average_precision(check.frauds > 0, scores))
    best = max(found, key=lambda each: float(np.mean(found[each])))
    return dict(best), float(np.mean(found[best]))


def fit_peer(peer: str, setting: Setting, rows: Examples, seed: int) -> Scorer:
    """A peer of one setting, fitted to rows; equal seeds give equal scores."""
    truth = rows.frauds.astype(np.int32)
    if peer == "logistic_regression":
        return _logistic_regression(setting, rows, truth, seed)
    if peer == "random_forest":
        from sklearn.ensemble import RandomForestClassifier

        forest = RandomForestClassifier(100, random_state=seed, n_jobs=1, **setting).fit(matrix(rows), truth)
        return lambda rows, trees=None: forest.predict_proba(matrix(rows))[:, 1]
    return _xgboost(setting, rows, truth, seed) if peer == "xgboost" else _lightgbm(setting, rows, truth, seed)


def matrix(rows: Examples) -> Array:
    """Numbers and categories side by side, float32 [n, K + C]."""
    return np.concatenate([rows.numbers, rows.categories.astype(np.float32)], axis=1)


def _logistic_regression(setting: Setting, rows: Examples, truth: Array, seed: int) -> Scorer:
    from sklearn.linear_model import LogisticRegression

    sizes = rows.categories.max(axis=0) + 1

    def columns(rows: Examples) -> Array:
        told = [rows.categories[:, [at]] == np.arange(size) for at, size in enumerate(sizes)]
        numbers = np.clip(rows.numbers, -8, 8)  # a number a hundred deviations away would rule a linear model
        return np.concatenate([numbers, *told], axis=1, dtype=np.float32)

    model = LogisticRegression(max_iter=300, random_state=seed, **setting).fit(columns(rows), truth)
    return lambda rows, trees=None: model.predict_proba(columns(rows))[:, 1]


def _xgboost(setting: Setting, rows: Examples, truth: Array, seed: int) -> Scorer:
    import xgboost

    chosen = {name: value for name, value in setting.items() if name != "trees"}
    model = xgboost.XGBClassifier(
        n_estimators=setting["trees"], subsample=0.8, colsample_bytree=0.6, min_child_weight=3, reg_lambda=2,
        tree_method="hist", n_jobs=1, random_state=seed, **chosen,
    ).fit(matrix(rows), truth)  # fmt: skip
    return lambda rows, trees=None: model.predict_proba(matrix(rows), iteration_range=(0, trees or 0))[:, 1]


def _lightgbm(setting: Setting, rows: Examples, truth: Array, seed: int) -> Scorer:
    import lightgbm

    chosen = {name: value for name, value in setting.items() if name != "trees"}
    options = {
        "objective": "binary", "min_data_in_leaf": 20, "feature_fraction": 0.6, "bagging_fraction": 0.8,
        "bagging_freq": 1, "lambda_l2": 2, "num_threads": 1, "seed": seed, "deterministic": True, "verbose": -1,
        **chosen,
    }  # fmt: skip
    model = lightgbm.train(options, lightgbm.Dataset(matrix(rows), truth), setting["trees"])
    return lambda rows, trees=None: np.asarray(model.predict(matrix(rows), num_iteration=trees or None, num_threads=1))
