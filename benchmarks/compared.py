"""One protocol of the benchmark of quality: every model's scores on every fold, kept on disk, and what they come to."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from archive.layout import Archive
from benchmarks.peers import PEERS, fit_peer, settings, tune
from benchmarks.prepared import Prepared, Tell, imported, prepare
from benchmarks.protocols import Fold, Name, folds, validation_folds
from features.declaration import DECLARATION
from training.bootstrap import Draws, cards, draw, interval, ranked
from training.dataset import Examples
from training.metrics import Array, Float64, ScoredRows

LEVEL = 0.025
"""Each end of an interval is passed by chance with this probability: 95 % lie inside."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Average precision and CP@100 of a model, as measured and in every resample, float64 [1 + B]; and by seed."""

    ap: Float64
    cp100: Float64
    seeds: Float64


def compare(
    part: str, data_set: str, source: Path, models: Sequence[str], seeds: int, resamples: int, work: Path, tell: Tell
) -> dict[str, Any]:
    """All keys of one protocol; see `benchmarks.quality`."""
    archive = imported(data_set, source, work)
    name: Name = part  # type: ignore[assignment]  # quality refuses other names
    rows = [prepare(archive, data_set, fold, work, tell) for fold in folds(name)]
    chosen = {peer: _chosen(name, peer, archive, data_set, work, tell) for peer in models if peer in PEERS}
    scores: dict[str, list[list[Array]]] = {}
    for model in models:
        numbers = range(seeds if model == "ours" else 1)
        scores[model] = [
            [_scores(fold, each, model, chosen.get(model), seed, work, tell) for seed in numbers]
            for fold, each in zip(folds(name), rows, strict=True)
        ]
    tell(f"{part}: bootstrap")
    measured = summarise(rows, scores, resamples, cards_too=data_set == "handbook")
    return {**keys(part, measured), **{f"{part}_setting_{peer}": setting for peer, setting in chosen.items()}}


def summarise(
    rows: Sequence[Prepared], scores: dict[str, list[list[Array]]], resamples: int, cards_too: bool
) -> dict[str, Measured]:
    """Metrics of every model over the folds, in the same resamples of accounts for all of them and for every fold.

    scores: of each model, for each fold, for each seed, float [n].
    """
    accounts = np.unique(np.concatenate([each.accounts for each in rows]))
    times = draw(accounts, 0, resamples).times
    found = {}
    for model, of_folds in scores.items():
        ap, cp, by_seed = [], [], []
        for fold, of_seeds in zip(rows, of_folds, strict=True):
            draws = Draws(times, np.searchsorted(accounts, fold.accounts))
            tables = [_table(fold, each) for each in of_seeds]
            aps = np.array([ranked(each, draws, ())["ap"] for each in tables])
            by_seed.append(aps[:, 0])
            ap.append(aps.mean(axis=0))
            cp.append(np.mean([cards(each, draws) for each in tables], axis=0) if cards_too else np.zeros(1))
        found[model] = Measured(np.mean(ap, axis=0), np.mean(cp, axis=0), np.mean(by_seed, axis=0))
    return found


def keys(part: str, measured: dict[str, Measured]) -> dict[str, float]:
    """The figures of one protocol by name, rounded to five places."""
    result: dict[str, float] = {}
    for model, each in measured.items():
        end = "" if model == "ours" else f"_{model}"
        between = interval(each.ap, LEVEL)
        result |= {
            f"{part}_ap{end}": between.estimate,
            f"{part}_ap{end}_low": between.low,
            f"{part}_ap{end}_high": between.high,
        }
        if len(each.cp100) > 1:
            result[f"{part}_cp100{end}"] = float(each.cp100[0])
        if model == "ours" and len(each.seeds) > 1:
            result[f"{part}_ap_seed_deviation"] = float(np.std(each.seeds, ddof=1))
        if model != "ours" and "ours" in measured:
            over, name = interval(measured["ours"].ap - each.ap, LEVEL), f"{part}_ap_over{end}"
            result |= {name: over.estimate, f"{name}_low": over.low, f"{name}_high": over.high}
    return {name: round(value, 5) for name, value in result.items()}


def fit_ours(rows: Prepared, seed: int) -> Array:
    """Scores float64 [n] of the test rows by the default recipe, fitted under MirroredStrategy as every training is."""
    import tensorflow as tf

    from training.fit import Recipe, fit, strategy

    network = fit(rows.train, rows.vocabulary_sizes, Recipe(seed=seed), strategy(None)).network
    at = range(0, len(rows.test), 8192)
    parts = [rows.test.take(slice(begin, begin + 8192)) for begin in at]
    logits = [
        network.whole([tf.constant(each.numbers), tf.constant(each.categories)], training=False) for each in parts
    ]
    return np.concatenate([tf.sigmoid(tf.cast(each[:, 0], tf.float64)).numpy() for each in logits])


def _scores(fold: Fold, rows: Prepared, model: str, setting: Any, seed: int, work: Path, tell: Tell) -> Array:
    """Scores of the test rows; kept under a name that stands for rows, model, setting and seed."""
    file = work / f"scores-{fold.name}-{DECLARATION.fingerprint}-{model}-{_digest(model, setting)}-{seed}.npy"
    if not file.exists():
        tell(f"{fold.name}: {model}, seed {seed}")
        scores = fit_ours(rows, seed) if model == "ours" else fit_peer(model, setting, rows.train, seed)(rows.test)
        part = file.with_suffix(".part.npy")
        np.save(part, scores)
        part.rename(file)
    return np.asarray(np.load(file))


def _digest(model: str, setting: Any) -> str:
    if model == "ours":
        from training.fit import Recipe

        setting = {**asdict(Recipe()), "code": _code()}
    return hashlib.sha256(json.dumps(setting, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _code() -> str:
    """Of the network's own module: another network of the same recipe is another model."""
    from training import model

    return hashlib.sha256(Path(str(model.__file__)).read_bytes()).hexdigest()


def _chosen(name: Name, peer: str, archive: Archive, data_set: str, work: Path, tell: Tell) -> dict[str, Any]:
    """The peer's setting for a protocol, tuned unless it was before."""
    checks = validation_folds(name)
    grid = hashlib.sha256(json.dumps(list(settings(peer)), default=str).encode()).hexdigest()[:8]
    file = work / f"setting-{checks[0].name}-{DECLARATION.fingerprint}-{peer}-{grid}.json"
    if not file.exists():
        pairs: list[tuple[Examples, Examples]] = []
        for fold in checks:
            rows = prepare(archive, data_set, fold, work, tell)
            pairs.append((rows.train, rows.test))
        tell(f"{name}: tuning {peer} on {len(pairs)} earlier folds")
        setting, ap = tune(peer, pairs)
        file.write_text(json.dumps({"setting": dict(setting), "validation_ap": ap}))
    return dict(json.loads(file.read_text())["setting"])


def _table(rows: Prepared, scores: Array) -> ScoredRows:
    return ScoredRows(rows.transaction_ids, rows.occurred_at, rows.accounts, scores, rows.test.frauds > 0)
