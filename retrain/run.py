"""A night's runner: steps in order, each done once, and whoever is killed at any second goes on where it was.

    RUN/run.json             the manifest, exchanged at one stroke
    RUN/STEP/                what a step wrote, and `step.json`: what it read and wrote, by SHA-256
    RUN/.STEP.unfinished/    a step at work; thrown away by the next start
    RUN/.STEP.keep/          what a step keeps over a kill, such as checkpoints; gone when it is done

A step is done when its folder has its name, its files have the digests of its record, and what it read is what it would
read now. Anything else is done again, and what follows from it too. Nothing here knows what the steps are about.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from archive.manifest import file_sha256
from plumbline.errors import PlumblineError, Retryable
from retrain.disk import full
from retrain.manifest import (
    FINAL,
    STEP_NAME,
    Manifest,
    StepRecord,
    asked_digest,
    changed,
    file_outputs,
    read_run,
    read_step,
    sync,
    write_run,
)
from retrain.steps import Done, Place, Step, Stopped


class Watch(Protocol):
    """Whoever looks on: a terminal, a log, SQL. Nothing that it does or fails to do changes the run."""

    def changed(self, manifest: Manifest) -> None:
        """The manifest is another one."""

    def told(self, step: str, done: int, whole: int) -> None:
        """So much of a step is done, of so much (0 while that is not known)."""

    def noticed(self, step: str, what: str) -> None:
        """Something that a person may want to know."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A run that is asked for.

    folder: its own; name: as `manifest.name_of`; arguments: that decide what comes out, and so stand in every step's
    inputs; facts: further words for `run.json`; shared: folder against which shared files are named, and within which
    a changed one may be removed; code: what the steps are computed by; host: where this process runs.
    """

    folder: Path
    name: str
    arguments: Mapping[str, Any]
    shared: Path
    code: str
    host: str
    facts: Mapping[str, Any]


class Runner:
    """One process's attempt at a run; check: raises where it may not go on, such as without its locks."""

    def __init__(
        self,
        asked: Asked,
        steps: Sequence[Step],
        watch: Watch,
        *,
        now_us: Callable[[], int],
        stopped: Callable[[], bool] = lambda: False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._asked, self._steps, self._watch = asked, steps, watch
        self._now_us, self._stopped, self._check = now_us, stopped, check
        self._arguments = asked_digest(asked.arguments)
        self.at: Step | None = None
        """The step at work, for whoever has to stop it."""

    def run(self) -> tuple[Manifest, bool]:
        """Go on with the run until it ends; the manifest, and whether it had ended before and nothing was done.

        An error of a step is in the manifest, and raised: Retryable where the same call goes on later, Stopped when
        told to stop.
        """
        folder = self._asked.folder
        found = read_run(folder)
        if found is not None and found.verdict in FINAL:
            return found, True
        self._manifest = self._begun(found)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _remove(*folder.glob(f"{REMOVED}-*"))
            self._write()
            for step in self._steps:
                if not self._is_done(step):
                    self._do(step)
                record = self._manifest.of(step.name)
                ends = str(record.facts.get("ends", ""))
                if ends or step is self._steps[-1]:
                    return self._end(ends or "shadowed", step.name, str(record.facts.get("why", ""))), False
            raise AssertionError("a run has steps")
        except Stopped:
            self._leave("stopped", "told to stop: the same command goes on")
            raise
        except Retryable as error:
            self._leave("stopped", str(error))
            raise
        except PlumblineError as error:
            self._leave("failed", str(error))
            raise
        except Exception as error:
            refusal = full(error, folder)
            self._leave("failed", str(refusal) if refusal else f"{type(error).__name__}: {error}")
            if refusal:
                raise refusal from error
            raise

    @property
    def manifest(self) -> Manifest:
        """As it stands."""
        return self._manifest

    def alive(self) -> None:
        """Say that the run is at work."""
        self._manifest = msgspec.structs.replace(self._manifest, updated_at=self._now_us())
        self._watch.changed(self._manifest)

    def _begun(self, found: Manifest | None) -> Manifest:
        now = self._now_us()
        records = tuple(StepRecord(name=each.name) for each in self._steps)
        if found is None:
            return Manifest(
                run=self._asked.name, arguments={**self._asked.facts, **self._asked.arguments}, started_at=now,
                updated_at=now, host=self._asked.host, steps=records,
            )  # fmt: skip
        return msgspec.structs.replace(
            found, verdict="running", error="", step="", attempts=found.attempts + 1, updated_at=now,
            host=self._asked.host, steps=records,
        )  # fmt: skip

    def _is_done(self, step: Step) -> bool:
        """Whether a step is done; a folder that is not what it says is put away."""
        folder = self._asked.folder / step.name
        record = read_step(folder)
        if record is None:
            _remove(folder)
            return False
        if record.inputs != self._inputs(step):
            self._watch.noticed(step.name, "what it read is another now: it is done again")
            _remove(folder)
            return False
        if wrong := changed(folder, record.outputs):
            self._watch.noticed(step.name, f"{wrong[0]} was changed or is gone: it is done again")
            _remove(folder)
            return False
        if wrong := changed(self._asked.shared, record.shared):
            self._watch.noticed(step.name, f"{wrong[0]} was changed or is gone: it is done again")
            for name in wrong:
                self._forget_shared(name)
            _remove(folder)
            return False
        _remove(self._asked.folder / f".{step.name}.keep")  # of a start that was killed just behind the step's end
        self._put(record)
        return True

    def _do(self, step: Step) -> None:
        if self._stopped():
            raise Stopped
        self._check()
        folder = self._asked.folder
        unfinished, keep = folder / f".{step.name}.unfinished", folder / f".{step.name}.keep"
        inputs = self._inputs(step)
        _forget_other(keep, inputs)
        _remove(unfinished)
        unfinished.mkdir()
        keep.mkdir(exist_ok=True)
        (keep / STEP_NAME).write_bytes(msgspec.json.encode(inputs, order="deterministic"))
        self._put(StepRecord(name=step.name, state="running", inputs=inputs))
        self._change(step=step.name)
        place = Place(
            unfinished, keep, folder, self._manifest.started_at, self._stopped,
            lambda done, whole: self._watch.told(step.name, done, whole),
        )  # fmt: skip
        begun = time.perf_counter()
        self.at = step
        try:
            done = step.work(place)
        finally:
            self.at = None
        record = self._recorded(step, inputs, done, unfinished, time.perf_counter() - begun)
        (unfinished / STEP_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")
        sync([*(each for each in unfinished.rglob("*") if each.is_file()), unfinished])
        unfinished.rename(folder / step.name)
        sync([folder])
        _remove(keep)
        self._put(record)
        self._change()

    def _recorded(
        self, step: Step, inputs: Mapping[str, str], done: Done, folder: Path, seconds: float
    ) -> StepRecord:  # fmt: skip
        facts = dict(done.facts)
        for name in ("ends", "why", "version", "champion"):
            if (value := getattr(done, name)) not in {None, ""}:
                facts[name] = value
        names = {str(path.absolute().relative_to(self._asked.shared.absolute())): path for path in done.shared}
        shared = {name: file_sha256(path) for name, path in sorted(names.items())}
        return StepRecord(
            name=step.name, state="done", inputs=dict(inputs), outputs=file_outputs(folder), shared=shared,
            seconds=round(seconds, 3), rows=done.rows, facts=facts,
        )  # fmt: skip

    def _inputs(self, step: Step) -> dict[str, str]:
        before = {name: self._manifest.of(name).digest for name in step.needs}
        return {"arguments": self._arguments, "code": self._asked.code, **before, **step.reads()}

    def _forget_shared(self, name: str) -> None:
        file = (self._asked.shared / name).resolve()
        if file.is_relative_to(self._asked.folder.parent.parent.resolve()):  # what nights share; nothing else is ours
            file.unlink(missing_ok=True)

    def _put(self, record: StepRecord) -> None:
        steps = tuple(record if each.name == record.name else each for each in self._manifest.steps)
        facts = {name: record.facts[name] for name in ("version", "champion") if name in record.facts}
        self._manifest = msgspec.structs.replace(self._manifest, steps=steps, **facts)

    def _end(self, verdict: str, step: str, why: str) -> Manifest:
        now = self._now_us()
        self._change(verdict=verdict, step="" if verdict != "refused" else step, error=why, finished_at=now)
        return self._manifest

    def _leave(self, verdict: str, error: str) -> None:
        """Write down why the run ends for now; a disk that takes nothing more leaves what stood there."""
        steps = tuple(
            msgspec.structs.replace(each, state="failed" if verdict == "failed" else "waiting")
            if each.state == "running"
            else each
            for each in self._manifest.steps
        )
        _remove(*self._asked.folder.glob(".*.unfinished"))
        try:
            self._change(verdict=verdict, error=error, steps=steps)
        except OSError as reason:
            self._watch.noticed("run", f"run.json could not be written: {reason}")
            self._watch.changed(self._manifest)

    def _change(self, **facts: Any) -> None:
        self._manifest = msgspec.structs.replace(self._manifest, updated_at=self._now_us(), **facts)
        self._write()

    def _write(self) -> None:
        write_run(self._asked.folder, self._manifest)
        self._watch.changed(self._manifest)


REMOVED: Final = ".removed"


def _remove(*paths: Path) -> None:
    """Take folders away, each out of its name first, so that nobody finds half of one; what is no folder stays."""
    for path in paths:
        if path.is_dir():
            aside = path if path.name.startswith(REMOVED) else path.with_name(f"{REMOVED}-{path.name}")
            if aside != path:
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)


def _forget_other(keep: Path, inputs: Mapping[str, str]) -> None:
    """What a step kept counts for the inputs it had: of others it is thrown away."""
    if not keep.exists():
        return
    try:
        kept = msgspec.json.decode((keep / STEP_NAME).read_bytes())
    except (OSError, msgspec.MsgspecError):
        kept = None
    if kept != inputs:
        _remove(keep)
