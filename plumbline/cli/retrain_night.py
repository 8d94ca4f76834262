"""A night of this installation, put together from the settings: its sources, its registry, whoever looks on."""

import contextlib
import dataclasses
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from plumbline.cli.beam import runner_of
from plumbline.cli.models_store import moment, now_us, opened
from plumbline.cli.retrain_stop import Stopping

if TYPE_CHECKING:
    import sqlalchemy as sa

    from features.grammar import Declaration
    from plumbline.settings import Settings
    from retrain.manifest import Manifest
    from retrain.night import CarryOut, Night
    from retrain.notify import Hooks
    from retrain.plan import Plan
    from retrain.run import Watch


class Options(NamedTuple):
    """What the command line says beside the plan; see `plumbline retrain --help`."""

    archive: Path | None
    journal: Path | None
    keep: bool
    shadow: bool
    few: bool
    wait_seconds: float


class Ended(NamedTuple):
    """How a start ended: the manifest, whether the night had ended before, and how many notices wait."""

    manifest: "Manifest"
    again: bool
    waiting: int


def run_night(given: "Settings", plan: "Plan", declared: "Declaration | None", options: Options) -> Ended:
    """Run a night, or go on with it, under the locks; declared: what to train, None for what the champion has.

    Raises Refused while another one runs, and what stopped the night: Stopped, Retryable, or an error.
    """
    from retrain import lock

    root = given.data_path / "retrain"
    hooks = hooks_of(given)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.")  # Beam imports what says so
    holder = lock.Holder(os.getpid(), socket.gethostname(), plan.day, now_us(), moment(now_us()))
    with (
        opened() as (engine, _),
        lock.held(root / "lock", holder) as file_held,
        lock.held_in_sql(engine) as session_held,
    ):

        def check() -> None:
            file_held()
            session_held()

        declared, whose = (declared, "a file") if declared else _declaration_in_service(given, engine)
        print(f"plumbline retrain: trains declaration {declared.fingerprint}, that of {whose}", file=sys.stderr)
        archive, journal, plan = _sources(given, plan, options)
        plan = _declared(root, plan, declared.fingerprint)
        night = _night(given, plan, declared, options, engine, archive, journal)
        try:
            with runner_of(given) as runner:
                manifest, again = _run(given, dataclasses.replace(night, runner=runner), hooks, check)
        finally:
            waiting = deliver(root, hooks)
        if not again:
            _prune(given, night)
    return Ended(manifest, again, waiting)


def _declaration_in_service(given: "Settings", engine: "sa.Engine") -> "tuple[Declaration, str]":
    """The declaration of the champion, or this release's own where there is none; and whose it is.

    Raises Refused, ModelVersionNotFound where the champion's files are gone or do not say.
    """
    from features.declaration import DECLARATION
    from release.state import registry_of
    from store.engine import transaction
    from training.files import declaration_of

    with transaction(engine) as session:
        champion = registry_of(session).champion
    if champion is None:
        return DECLARATION, "this release, as there is no champion"
    return declaration_of(given.models_path / str(champion)), f"the champion, version {champion}"


def _declared(root: Path, plan: "Plan", fingerprint: str) -> "Plan":
    """The plan with its declaration, and with every day that was ever declared empty before its cut-off."""
    import msgspec

    from retrain.empty_days import declare
    from training.provenance import operator

    days = [each.day for each in declare(root, plan.empty_days, operator(), now_us())]
    empty = tuple(day for day in days if day < plan.day)
    return msgspec.structs.replace(plan, fingerprint=fingerprint, empty_days=empty)


def hooks_of(given: "Settings") -> "Hooks":
    """Whom to tell, from the settings. Raises InvalidSetting."""
    from plumbline.errors import InvalidSetting
    from retrain.notify import Hooks
    from retrain.watching import VERDICTS

    verdicts = frozenset(word.strip() for word in given.notify_verdicts.split(",") if word.strip())
    if wrong := verdicts - {*VERDICTS} or verdicts & {"running"}:
        allowed = "some of failed, refused, registered, shadowed, stopped, by commas"
        raise InvalidSetting("environment", "PLUMBLINE_NOTIFY_VERDICTS", ", ".join(sorted(wrong)), allowed)
    token = ""
    if given.notify_token_file:
        try:
            token = Path(given.notify_token_file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            name = "PLUMBLINE_NOTIFY_TOKEN_FILE"
            raise InvalidSetting("environment", name, given.notify_token_file, f"a readable file ({error})") from error
    return Hooks(given.notify_command, given.notify_url, token, given.notify_file, verdicts)


def deliver(root: Path, hooks: "Hooks") -> int:
    """Deliver what waits in the outbox; how many notices still wait."""
    from retrain.notify import deliver as run

    return run(root / "outbox", hooks, time.sleep, lambda text: print(f"plumbline retrain: {text}", file=sys.stderr))


def _sources(given: "Settings", plan: "Plan", options: Options) -> "tuple[Path | None, Path | None, Plan]":
    """Archive and journal, and the plan that names them."""
    import msgspec

    from archive.kept import KeptJournal
    from archive.layout import open_archive

    archive = options.archive or _there(given.data_path / "archive", "archive.json")
    journal = options.journal or _there(given.data_path / "journal", "journal.json")
    if options.keep:
        journal = options.journal or given.data_path / "journal"
        _keep(given, journal)
    whose = ""
    if journal is not None:
        kept = KeptJournal(journal).kept
        whose = f"{kept.prefix}decisions, begun with {kept.archive_digest or 'no archive'}"
    digest = "" if archive is None else open_archive(archive).manifest.digest
    return archive, journal, msgspec.structs.replace(plan, archive_digest=digest, journal=whose)


def _there(folder: Path, file: str) -> Path | None:
    return folder if (folder / file).is_file() else None


def _keep(given: "Settings", journal: Path) -> None:
    from audit.prehistory import named_archive
    from streaming.keep import keep

    keep(
        journal, given.kafka_bootstrap, given.topic_prefix, named_archive(given),
        tell=lambda rows: None,
    )  # fmt: skip


def _night(
    given: "Settings", plan: "Plan", declared: "Declaration", options: Options, engine: "sa.Engine",
    archive: Path | None, journal: Path | None,
) -> "Night":  # fmt: skip
    from plumbline.cli.quiet import import_tensorflow_quietly
    from retrain.night import Night
    from training.provenance import code_commit, lock_sha256, operator

    made = {"code_commit": code_commit(given.code_commit), "lock_sha256": lock_sha256(), "made_by": operator()}
    return Night(
        plan=plan, data=given.data_path, archive=archive, journal=journal, models=given.models_path,
        declaration=declared, engine=engine, now_us=now_us,
        carry_out=_carry_out(engine, given, options, journal) if options.shadow else None,
        load=import_tensorflow_quietly, made=made,
    )  # fmt: skip


def _carry_out(engine: "sa.Engine", given: "Settings", options: Options, journal: Path | None) -> "CarryOut":
    """Carries out what the night asks the registry for, as `plumbline models carry-out` does."""
    from plumbline.cli.models_site import gate, model_server
    from release.carrying import Site, carry_out

    def run(request: int, tell: Any) -> Mapping[str, Any]:
        place = Site(
            engine, given.kafka_bootstrap, given.topic_prefix, model_server(given, options.wait_seconds),
            given.models_path, now_us, options.wait_seconds,
        )  # fmt: skip
        with gate(given, None, options.few) as gated:
            return carry_out(place, request, gated, tell)

    return run


def _run(
    given: "Settings", night: "Night", hooks: "Hooks", check: "Callable[[], None]"
) -> "tuple[Manifest, bool]":  # fmt: skip
    import hashlib

    from observe.metrics import Metrics
    from plumbline.clock import monotonic
    from plumbline.errors import PlumblineError
    from retrain.manifest import name_of
    from retrain.night import steps_of
    from retrain.notify import put
    from retrain.run import Asked, Runner
    from retrain.steps import Stopped
    from retrain.watching import InMetrics, InSql, Log, Together

    asked = night.plan.asked()
    name = name_of(night.plan.day, asked)
    code = f"{night.made['code_commit']} {night.made['lock_sha256']}"
    run = Asked(
        night.run_folder(name), name, asked, given.data_path, hashlib.sha256(code.encode()).hexdigest(),
        socket.gethostname(), {"archive": str(night.archive or ""), "journal_folder": str(night.journal or "")},
    )  # fmt: skip
    metrics, stopping = Metrics(), Stopping()
    server = metrics.serve(given.metrics_host, given.metrics_port)
    try:
        with _bars() as bars:
            in_sql = InSql(night.engine, str(night.tensorboard(name)), monotonic)
            watch = Together(Log(), in_sql, InMetrics(metrics, night.root / "metrics.prom"), bars)
            runner = Runner(run, steps_of(night), watch, now_us=now_us, stopped=stopping, check=check)
            stopping.watch(runner)
            try:
                manifest, again = runner.run()
            except (Exception, Stopped) as error:
                _put(night, runner.manifest, hooks, put)
                if isinstance(error, Stopped | PlumblineError) and stopping.asked:
                    print("plumbline: told to stop; the same command goes on", file=sys.stderr)
                    stopping.leave()
                raise
        if not again:
            _put(night, manifest, hooks, put)
        else:
            in_sql.changed(manifest)  # SQL may have been away, or made anew, since the night ended
        return manifest, again
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()


def _put(night: "Night", manifest: "Manifest", hooks: "Hooks", put: Any) -> None:
    try:
        put(night.root / "outbox", manifest, hooks)
    except OSError as error:
        print(f"plumbline retrain: the notice cannot be written down ({error})", file=sys.stderr)


def _prune(given: "Settings", night: "Night") -> None:
    from retrain.days import prune as prune_days
    from retrain.pruning import prune, shared_names

    runs = night.root / "runs"
    prune(runs, given.retrain_keep_runs, now_us())
    prune_days(night.days, shared_names(runs))


@contextlib.contextmanager
def _bars() -> "Iterator[Watch]":
    """Progress on standard error where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(file=sys.stderr)
    columns = (SpinnerColumn(), TextColumn("{task.description:<10}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield _Bars(progress)


class _Bars:
    def __init__(self, progress: Any) -> None:
        self._progress, self._tasks = progress, dict[str, Any]()

    def changed(self, manifest: "Manifest") -> None:
        for each in manifest.steps:
            if each.state == "running":
                self.told(each.name, 0, 0)
            elif each.state == "done" and each.name in self._tasks:
                self._progress.update(self._tasks[each.name], completed=1, total=1)

    def told(self, step: str, done: int, whole: int) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=whole or None)
        self._progress.update(self._tasks[step], completed=done, total=whole or None)

    def noticed(self, step: str, what: str) -> None:
        """The log says it."""
