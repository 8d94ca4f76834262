"""`plumbline train`: an archive becomes the next version of a model, in steps that each say what they do.

history (Beam, kept on disk) → rows (Parquet) → analysis (TFT on Beam) → transform → fit → export → evaluation.

The version is exported before it is evaluated, since what is evaluated must be what will serve: its own SavedModel,
loaded again. Until it has its numbers it has no name that a server would look at.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import tensorflow as tf

from archive.layout import Archive
from features.analysis import write_analysis
from features.declaration import DECLARATION
from features.grammar import Declaration
from features.runner import EMBEDDED, Runner
from plumbline.policy import Policy
from training.card_page import page_of
from training.costs import Costs, Spent, choose, spent
from training.dataset import frauds_known, row_batches, transformed, write_rows
from training.evaluate import Loaded, load, score_rows
from training.export import Exported, Transform, publish, save
from training.fit import OnEpoch, fit
from training.metrics import ScoredRows, known_from, measure, without_known
from training.past import ensure_history
from training.placed import Cluster, strategy
from training.recipe import Recipe
from training.reference import make_reference, write_reference
from training.shards import open_shards, write_shards
from training.slices import first_seen, slices
from training.warmup import ROWS_MAX
from training.windows import Windows
from training.work import Work

DEFAULT_COSTS: Final = Costs()

PUBLISHED: Final = ("ap", "auc", "cp100", "ece", "brier", "rows", "frauds")
"""Metrics that are also taken of the rows whose accounts were not known to be defrauded."""
UNBLOCKED: Final = "_unblocked"

STEPS: Final = ("history", "rows", "analysis", "transform", "fit", "evaluate", "export")


@dataclass(frozen=True, slots=True)
class Trained:
    """A new version: its folder, its metrics on the test days, a policy for it, and what that would have cost there."""

    folder: Path
    version: int
    metrics: Mapping[str, float]
    policy: Policy
    money: Spent
    rows: Mapping[str, int]
    losses: tuple[float, ...] = field(default=())


Tell = Callable[[str, int, int], None]
"""Called with a step's name, how much of it is done, and how much it is in all (0 while that is not known)."""


def train(
    archive: Archive,
    windows: Windows,
    recipe: Recipe,
    *,
    base: Path,
    cache: Path,
    now_us: int,
    declaration: Declaration = DECLARATION,
    devices: int | None = None,
    runner: Runner = EMBEDDED,
    tensorboard: Path | None = None,
    profile: range | None = None,
    made: Mapping[str, str] | None = None,
    costs: Costs = DEFAULT_COSTS,
    tell: Tell = lambda step, done, whole: None,
    work: Work | None = None,
) -> Trained:
    """Train on an archive and export the next version under a base path.

    cache: folder in which history is kept from one training to the next; now_us: our clock, for the model's card;
    declaration: what is computed of the past and told to the network; devices: see training.fit.strategy; runner: where
    Beam computes history and analysis; tensorboard: folder of the fit's logs; profile: steps
    of which TensorFlow's profiler writes there; made: more for the card, such as
    `code_commit`, `lock_sha256` and `made_by`; costs: by which thresholds are chosen.
    work: folder in which a training that was broken off goes on; it is deleted when the version is there.
    Raises Refused when the training days hold no fraud, Preempted when it was told to stop, InvalidArchive when a
    window is empty.
    """
    placed = strategy(devices, work.among if work else Cluster())
    if work:
        work.claim({
            "archive": archive.manifest.digest, "train": str(windows.train), "test": str(windows.test),
            "delay_days": windows.delay_days, "declaration": declaration.fingerprint,
        })  # fmt: skip
    base.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".training-", dir=base))
    kept = work.folder if work else scratch
    try:
        tell("history", 0, 0)
        history = ensure_history(archive, cache, (windows.train.since_us, windows.test.until_us), declaration, runner)
        tell("history", 1, 1)
        train_file, test_file = kept / "train.parquet", kept / "test.parquet"
        tell("rows", 0, 2)
        rows = {"train": write_rows(archive, history, windows.train, windows.cut_off_us, train_file, declaration)}
        tell("rows", 1, 2)
        rows["test"] = write_rows(archive, history, windows.test, None, test_file, declaration)
        tell("rows", 2, 2)
        analysis, examples = kept / "analysis", kept / "examples"
        tell("analysis", 0, 0)
        if not examples.exists():  # or they were made before a kill, by the analysis that lies beside them
            shutil.rmtree(analysis, ignore_errors=True)
            write_analysis([train_file], analysis, declaration=declaration, runner=runner)
        tell("analysis", 1, 1)
        tell("transform", 0, 0)
        transform = Transform(analysis, declaration)
        sizes = transform.vocabulary_sizes
        if examples.exists():
            learnable = open_shards(examples, declaration)
        else:
            features = transformed([train_file], transform.features, declaration)
            learnable = write_shards(examples, features, sizes, declaration.fingerprint)
        tell("transform", 1, 1)
        on_epoch: OnEpoch = lambda epoch, epochs, losses: tell("fit", epoch, epochs)  # noqa: E731 - named by its type
        tell("fit", 0, recipe.epochs)
        fitted = fit(
            learnable, sizes, recipe, placed, tensorboard, on_epoch,
            checkpoints=work.checkpoints if work else None, stop=work.stop if work else lambda: False,
            profile=profile,
        )  # fmt: skip
        tell("fit", recipe.epochs, recipe.epochs)
        tell("evaluate", 0, 0)
        folder = save(Exported(transform, fitted.network, fitted.calibration), scratch)
        seen = first_seen(archive.transactions(None, windows.test.until_us, ("account_id", "occurred_at")))
        scored = score_rows(test_file, load(folder, declaration), seen)
        metrics = measure(scored) | measure_as_published(archive, windows, scored)
        thresholds = choose(scored, costs)
        money = spent(scored, thresholds, costs)
        policy = Policy(version=f"suggested-{now_us}", review_at=thresholds.review_at, decline_at=thresholds.decline_at)
        write_reference(folder, make_reference(train_file, learnable, analysis, scored.scores, windows, declaration))
        tell("evaluate", 1, 1)
        tell("export", 0, 0)
        card = _card(base.name, now_us, windows, recipe, metrics, policy, rows, archive, declaration)
        card |= {"slices": slices(scored), "costs": _costs(costs, money), **(made or {})}
        first, _ = next(row_batches(train_file, declaration, ROWS_MAX))
        version = publish(folder, base, card, policy, declaration, first, page_of(scored, thresholds, costs))
        tell("export", 1, 1)
        if work:
            shutil.rmtree(work.folder, ignore_errors=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Trained(version, int(version.name), metrics, policy, money, rows, fitted.losses)


def scores_of(archive: Archive, windows: Windows, version: Loaded, cache: Path) -> ScoredRows:
    """All test rows of an archive with their batch history, scored by a version in this process, and the truth."""
    keep_us = (windows.train.since_us, windows.test.until_us)
    history = ensure_history(archive, cache, keep_us, version.declaration)
    with tempfile.TemporaryDirectory(prefix="plumbline-scores-") as scratch:
        file = Path(scratch) / "test.parquet"
        write_rows(archive, history, windows.test, None, file, version.declaration)
        return score_rows(file, version)


def measure_as_published(archive: Archive, windows: Windows, scored: ScoredRows) -> dict[str, float]:
    """Metrics of scored test rows under the Handbook's protocol, each name with `_unblocked` behind it.

    Rows of accounts whose fraud was known on the day, from the training days on, are left out first: their cards are
    blocked. So these are other figures than those of all rows. The journal's scores and the offline ones are measured
    by this same function.
    """
    accounts, times = _frauds_since(archive, windows.train.since_us, windows.test.until_us)
    found = measure(without_known(scored, known_from(accounts, times, windows.delay_days)))
    return {f"{name}{UNBLOCKED}": found[name] for name in PUBLISHED}


def _frauds_since(archive: Archive, since_us: int, until_us: int) -> tuple[Any, Any]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    known = pa.array(sorted(frauds_known(archive, None)), pa.string())
    columns = ("transaction_id", "account_id", "occurred_at")
    rows = pa.Table.from_batches(
        (
            batch.filter(pc.is_in(batch.column("transaction_id"), known))
            for batch in archive.transactions(since_us, until_us, columns)
        ),
        schema=pa.schema([("transaction_id", pa.string()), ("account_id", pa.string()), ("occurred_at", pa.int64())]),
    )
    return np.array(rows["account_id"].to_pylist(), np.str_), np.asarray(rows["occurred_at"], dtype=np.int64)


def _costs(costs: Costs, money: Spent) -> dict[str, Any]:
    """What the card says of money: what was assumed, and what the thresholds cost on the test days."""
    return {"assumed": msgspec.to_builtins(costs), "spent": {**asdict(money), "cost_minor": money.cost_minor}}


def _card(
    name: str,
    now_us: int,
    windows: Windows,
    recipe: Recipe,
    metrics: Mapping[str, float],
    policy: Policy,
    rows: Mapping[str, int],
    archive: Archive,
    declaration: Declaration,
) -> dict[str, Any]:
    """What `plumbline.json` says of a version."""
    return {
        "name": name,
        "created_at": now_us,
        "archive_digest": archive.manifest.digest,
        "train": str(windows.train),
        "delay_days": windows.delay_days,
        "test": str(windows.test),
        "rows": dict(rows),
        "seed": recipe.seed,
        "epochs": recipe.epochs,
        "precision": recipe.precision,
        "metrics": dict(metrics),
        "policy": {"review_at": policy.review_at, "decline_at": policy.decline_at},
        "feature_names": list(declaration.feature_names),
        "history_names": list(declaration.history_names),
        "tensorflow": tf.__version__,
    }
