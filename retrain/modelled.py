"""The steps of a night that make and judge a model: fit, evaluate, gate.

What is evaluated is the SavedModel that will serve, loaded again; the champion is scored on the same rows, with the
history of its own declaration where that is another one.
"""

import hashlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from plumbline.errors import Refused
from retrain.archived import windows
from retrain.scored import read_scored, write_scored
from retrain.steps import Done, Place

if TYPE_CHECKING:
    from features.grammar import Declaration
    from retrain.night import Night
    from training.evaluate import Loaded
    from training.fit import OnEpoch
    from training.metrics import ScoredRows

MODEL: Final = "model"
CANDIDATE: Final = "candidate.parquet"
CHAMPION: Final = "champion.parquet"
SEEDS: Final = "seeds.npz"
REFERENCE: Final = "reference"
GATE: Final = "gate.json"
WORDS_MOST: Final = 3


def fit(night: "Night", place: Place) -> Done:
    """Fit the network, and networks of other seeds beside it, and export them as they will serve."""
    night.load()
    from training.dataset import transformed
    from training.export import Exported, Transform, save
    from training.fit import fit as run
    from training.placed import strategy
    from training.recipe import Recipe
    from training.shards import open_shards, write_shards

    plan, declaration = night.plan, night.declaration
    placed = strategy(plan.devices)
    transform = Transform(place.of("analysis") / "transform", declaration)
    shards = place.keep / "shards"
    if not shards.exists():
        rows = transformed([place.of("rows") / "train.parquet"], transform.features, declaration)
        write_shards(shards, rows, transform.vocabulary_sizes, declaration.fingerprint)
    learnable = open_shards(shards, declaration)
    facts: dict[str, Any] = {"frauds": learnable.totals(slice(0, len(learnable))).frauds}
    begun = time.perf_counter()
    whole = plan.epochs * (1 + len(plan.seeds))
    for number, seed in enumerate((plan.seed, *plan.seeds)):
        recipe = Recipe(epochs=plan.epochs, batch_rows=plan.batch_rows, seed=seed, precision=plan.precision)
        fitted = run(
            learnable, transform.vocabulary_sizes, recipe, placed,
            night.tensorboard(place.run.name) / f"seed-{seed}",
            _told(place, number * plan.epochs, whole), checkpoints=place.keep / f"checkpoints-{seed}",
            stop=place.stopped,
        )  # fmt: skip
        exported = Exported(transform, fitted.network, fitted.calibration)
        scratch = place.keep / "export"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        target = place.folder / (MODEL if not number else f"seed-{seed}")
        save(exported, scratch).rename(target)
        if not number:
            facts |= {
                "epochs": len(fitted.losses), "loss": fitted.losses[-1] if fitted.losses else None,
                "validation_loss": min(fitted.validation_losses, default=None),
                "best_epoch": fitted.best_epoch, "input_share": round(fitted.input_share, 4),
                "examples_per_second": round(fitted.examples_per_second, 1),
                "weights_sha256": digest_of_weights(fitted.network.whole.get_weights()),
            }  # fmt: skip
    return Done(len(learnable), {**facts, "fit_seconds": round(time.perf_counter() - begun, 3)})


def _told(place: Place, before: int, whole: int) -> "OnEpoch":
    """Tells how many epochs are done, over all fits."""
    return lambda epoch, _epochs, _losses: place.tell(before + epoch, whole)


def digest_of_weights(weights: list[Any]) -> str:
    """SHA-256 over all weights' bytes: the model itself, whatever a SavedModel's protobuf holds besides."""
    found = hashlib.sha256()
    for each in weights:
        found.update(np.ascontiguousarray(each).tobytes())
    return found.hexdigest()


def evaluate(night: "Night", place: Place) -> Done:
    """Score the test rows by the candidate, by other seeds and by the champion, and keep the reference for drift."""
    night.load()
    from retrain.sources import open_sources
    from training.dataset import examples
    from training.evaluate import load, score_rows
    from training.export import Transform
    from training.reference import make_reference, write_reference
    from training.slices import first_seen

    declaration, days = night.declaration, windows(night, place)
    sources = open_sources(place.of("archive"))

    def seen() -> Iterator[Any]:
        for found in (sources.archived, sources.journaled):
            yield from found(sources.span_us[0], sources.cut_off_us, ("account_id", "occurred_at"))

    first = first_seen(seen())
    rows = place.of("rows") / "test.parquet"
    candidate = score_rows(rows, load(place.of("fit") / MODEL, declaration), first)
    write_scored(candidate, place.folder / CANDIDATE)
    others = [score_rows(rows, load(place.of("fit") / f"seed-{seed}", declaration)).scores for seed in night.plan.seeds]
    np.savez(place.folder / SEEDS, *others)
    champion = night.champion()
    if champion is not None:
        write_scored(_by_champion(night, place, champion, first), place.folder / CHAMPION)
    train = place.of("rows") / "train.parquet"
    learnable = examples(train, Transform(place.of("analysis") / "transform", declaration).features, declaration)
    reference = make_reference(
        train, learnable, place.of("analysis") / "transform", candidate.scores, days, declaration
    )
    (place.folder / REFERENCE).mkdir()
    write_reference(place.folder / REFERENCE, reference)
    return Done(
        len(candidate.scores), {"frauds": int(np.count_nonzero(candidate.frauds)), "test": str(days.test)},
        champion=champion,
    )  # fmt: skip


def _by_champion(night: "Night", place: Place, champion: int, first: Any) -> "ScoredRows":
    from training.evaluate import load, score_rows
    from training.files import declaration_of

    folder = night.models / str(champion)
    declared = declaration_of(folder)
    rows = place.of("rows") / "test.parquet"
    if declared.fingerprint != night.declaration.fingerprint:
        rows = _rows_under(night, place, declared)
    return score_rows(rows, load(folder, declared), first)


def _rows_under(night: "Night", place: Place, declaration: "Declaration") -> Path:
    """The test rows with the history of another declaration."""
    from retrain.history import history
    from retrain.rows import rows

    past, found = place.keep / "history", place.keep / "rows"
    for each in (past, found):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir()
    days = windows(night, place)
    history(
        past, sources=place.of("archive"), days=night.days, windows=days, declaration=declaration, runner=night.runner
    )
    rows(
        found, sources=place.of("archive"), truth=place.of("labels"), history=past, days=night.days, windows=days,
        declaration=declaration,
    )  # fmt: skip
    return found / "test.parquet"


def gate(night: "Night", place: Place) -> Done:
    """Let the candidate through, or say in words and figures why not."""
    night.load()
    from retrain.gate import Side, judge
    from retrain.gate_limits import Limits
    from retrain.parity import served_parity
    from retrain.speed import measure
    from training.costs import Costs, choose
    from training.evaluate import load
    from training.files import card_of, declaration_of
    from training.windows import untouched_from

    plan = night.plan
    limits, costs = msgspec.convert(plan.limits, Limits), msgspec.convert(plan.costs, Costs)
    scored = place.of("evaluate")
    champion = night.champion()

    def side(file: str, folder: Path, model: "Loaded") -> Side:
        rows, speed = read_scored(scored / file), measure(model, folder)
        return Side(rows, choose(rows, costs), speed.model_bytes, speed.latency_ms)

    def of_champion(number: int) -> Side:
        folder = night.models / str(number)
        return side(CHAMPION, folder, load(folder, declaration_of(folder)))

    with np.load(scored / SEEDS) as others:
        seeds = [others[name] for name in others.files]
    folder = place.of("fit") / MODEL
    model = load(folder, night.declaration)
    ours = side(CANDIDATE, folder, model)
    parity = served_parity(folder, model, place.of("rows") / "test.parquet", ours.rows, place.keep / "parity")
    compared_from = 0 if champion is None else untouched_from(card_of(night.models / str(champion)))
    found = judge(
        ours, of_champion(champion) if champion is not None else None, limits, costs, seed=plan.seed, seeds=seeds,
        compared_from=compared_from,
        labels=msgspec.json.decode((place.of("labels") / "facts.json").read_bytes()), parity=parity,
    )  # fmt: skip
    facts = found.facts()
    (place.folder / GATE).write_bytes(msgspec.json.format(msgspec.json.encode(facts)) + b"\n")
    failed = [each for each in found.checks if not each.passed]
    told = {
        "passed": found.passed,
        "gate": facts,
        "failed_checks": [each.name for each in failed],
        "metrics": found.metrics,
    }
    if found.passed:
        return Done(len(found.checks), told, champion=champion)
    more = f"; and {len(failed) - WORDS_MOST} more" if len(failed) > WORDS_MOST else ""
    why = "; ".join(each.words for each in failed[:WORDS_MOST]) + more
    if not failed:
        raise Refused("the gate refused the candidate without a failed check: this is a fault of Plumbline's")
    return Done(len(found.checks), told, ends="refused", why=why, champion=champion)
