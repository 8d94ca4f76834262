"""`plumbline train`: an archive becomes the next version of the model, under the base path that servers watch."""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbline.cli.retrain import PRECISIONS

if TYPE_CHECKING:
    from plumbline.settings import Settings


def train(
    archive: Annotated[Path, typer.Option(help="Folder of the archive.")],
    train: Annotated[str | None, typer.Option(help="Training days, such as 2018-07-25..2018-07-31.")] = None,
    test: Annotated[str | None, typer.Option(help="Test days, after the delay.")] = None,
    auto: Annotated[bool, typer.Option("--auto", help="Choose the days: the archive's last part is the test.")] = False,
    delay_days: Annotated[int, typer.Option(min=0, help="Days in which labels become known.")] = 7,
    epochs: Annotated[int, typer.Option(min=1, help="Most passes over the training rows.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    devices: Annotated[int | None, typer.Option(min=1, help="Replicas; all GPUs, or one CPU, when not given.")] = None,
    models_dir: Annotated[Path | None, typer.Option(help="Folder of models; DATA_DIR/models when not given.")] = None,
    declaration: Annotated[
        Path | None, typer.Option(help="JSON file of a declaration; this release's own when not given.")
    ] = None,
    precision: Annotated[str, typer.Option(help="Of the fit: " + ", ".join(PRECISIONS) + ".")] = "float32",
    profile: Annotated[
        str | None, typer.Option(help="Steps of the fit that TensorFlow's profiler looks at, such as 100..120.")
    ] = None,
    by: Annotated[str, typer.Option(help="Who trains, for the model's card. [default: who runs this]")] = "",
    history_cache: Annotated[Path | None, typer.Option(help="Folder that keeps computed history.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder in which a training that was stopped goes on; workers share it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train a model on an archive and export it."""
    from archive.currencies import currencies_of, mixed
    from archive.layout import verified_archive
    from features.declaration import DECLARATION
    from plumbline import settings
    from plumbline.cli.beam import runner_of
    from plumbline.cli.declaration import read_declaration
    from plumbline.cli.quiet import import_tensorflow_quietly
    from plumbline.errors import InvalidSetting

    given = settings.load()
    declared = DECLARATION if declaration is None else read_declaration(declaration)
    if auto == (train is not None and test is not None) or (train is None) != (test is None):
        raise InvalidSetting("train", "days", f"--train {train} --test {test}", "both --train and --test, or --auto")
    if precision not in PRECISIONS:
        raise InvalidSetting("train", "--precision", precision, ", ".join(PRECISIONS))
    profiled = _steps(profile)
    opened = verified_archive(archive)
    if warning := mixed(currencies_of(opened)):
        print(f"plumbline: warning: {warning}", file=sys.stderr)
    import_tensorflow_quietly()
    from training.costs import read_costs
    from training.fit import Recipe
    from training.placed import cluster
    from training.provenance import code_commit, lock_sha256, operator
    from training.train import train as run
    from training.windows import Windows, automatic, parse_days
    from training.work import Work, help_fitting

    if train is not None and test is not None:
        windows = Windows(parse_days(train), delay_days, parse_days(test))
    else:
        windows = automatic(*_span(opened), delay_days)
    now_us = time.time_ns() // 1000
    asked = _asked() if work else []
    among = cluster(os.environ)
    if among.workers > 1 and work is None:
        raise InvalidSetting("train", "work", None, "a folder that all workers of TF_CONFIG share")
    working = Work(work, among, lambda: bool(asked)) if work else None
    recipe = Recipe(epochs=epochs, seed=seed, precision=precision)
    if working and not among.is_chief:
        help_fitting(working, recipe, declared)
        print(json.dumps({"worker": among.worker}) if as_json else f"worker {among.worker} is done")
        return
    costs = read_costs(Path(given.costs_file) if given.costs_file else None)
    with runner_of(given) as runner, _bars() as tell:
        trained = run(
            opened,
            windows,
            recipe,
            base=(models_dir or given.data_path / "models") / given.model_name,
            cache=history_cache or given.data_path / "history",
            now_us=now_us,
            declaration=declared,
            devices=devices,
            runner=runner,
            tensorboard=given.data_path / "tensorboard" / f"{given.model_name}-{now_us}",
            profile=profiled,
            made={
                "code_commit": code_commit(given.code_commit), "lock_sha256": lock_sha256(), "made_by": by or operator()
            },
            costs=costs,
            tell=tell,
            work=working,
        )  # fmt: skip
    if trained.money.decline_share > costs.decline_share_most:
        print(f"plumbline: warning: these thresholds decline {trained.money.decline_share:.2%} of all payments, more "
              f"than {costs.decline_share_most:.2%}: the version is held, see docs/releases.md",
              file=sys.stderr)  # fmt: skip
    registered = _register(given, trained.folder, by or operator())
    if as_json:
        print(json.dumps({
            "version": trained.version, "folder": str(trained.folder), "train": str(windows.train),
            "test": str(windows.test), "review_at": trained.policy.review_at, "decline_at": trained.policy.decline_at,
            "train_rows": trained.rows["train"], "test_rows": trained.rows["test"], "registered": registered,
            **{f"cost_{name}": value for name, value in asdict(trained.money).items()}, **trained.metrics,
        }))  # fmt: skip
        return
    found = trained.metrics
    print(f"version {trained.version} of {given.model_name}: {trained.folder}")
    print(f"trained on {windows.train}, {trained.rows['train']:,} rows; tested on {windows.test}:")
    print(f"  ROC AUC {found['auc']:.4f}, average precision {found['ap']:.4f}, card precision@100 {found['cp100']:.4f}")
    print(f"  calibration error {found['ece']:.5f}, Brier score {found['brier']:.5f}")
    print(f"  cards not yet blocked: average precision {found['ap_unblocked']:.4f}, card precision@100 "
          f"{found['cp100_unblocked']:.4f}, calibration error {found['ece_unblocked']:.5f}")  # fmt: skip
    print(f"  fraud, reviews and insults cost {trained.money.cost_minor:,.0f} minor units; approving all costs "
          f"{trained.money.none_minor:,.0f}")  # fmt: skip
    print(f"  review from {trained.policy.review_at:.4f}, decline from {trained.policy.decline_at:.4f}")


def _steps(text: str | None) -> range | None:
    """The steps from FIRST up to, not including, LAST. Raises InvalidSetting."""
    from plumbline.errors import InvalidSetting

    if text is None:
        return None
    first, _, last = text.partition("..")
    if not (first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise InvalidSetting("train", "--profile", text, "FIRST..LAST, two step numbers, such as 100..120")
    return range(int(first), int(last))


def _asked() -> list[int]:
    """Fills when somebody asks this process to stop."""
    found: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: found.append(number))
    return found


def _register(given: "Settings", folder: Path, by: str) -> bool:
    """Add the version to the registry, where there is one; a training never fails for it, but says why it did not."""
    from plumbline.errors import PlumblineError
    from release.registering import register
    from store import schema
    from store.engine import open_engine, transaction

    if folder.parent != given.models_path:
        return False  # of another place than the registry's
    engine = open_engine(given)
    try:
        if schema.current(engine) is None:
            return False
        schema.require_current(engine)
        with transaction(engine) as session:
            register(session, folder.parent, int(folder.name), by=by, now_us=time.time_ns() // 1000)
    except PlumblineError as error:
        print(f"plumbline: version {folder.name} is not in the registry: {error}", file=sys.stderr)
        return False
    finally:
        engine.dispose()
    return True


def _span(archive: Any) -> tuple[int, int]:
    from plumbline.errors import InvalidArchive

    first, last = archive.manifest.first_occurred_at, archive.manifest.last_occurred_at
    if first is None or last is None:
        raise InvalidArchive(f"archive {archive.path}", "rows", 0, "one transaction or more")
    return first, last


@contextlib.contextmanager
def _bars() -> Iterator[Any]:
    """Progress on standard error, a line a step, whose time runs while it works."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description:<10}"), BarColumn(), TimeElapsedColumn())
    tasks: dict[str, Any] = {}
    with Progress(*columns, console=Console(file=sys.stderr)) as progress:

        def tell(step: str, done: int, whole: int) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step, total=whole or None)
            progress.update(tasks[step], completed=done, total=whole or None)

        yield tell
