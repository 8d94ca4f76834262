"""Verbs of `plumbline` as processes beside this one, each with its own log, none outliving whoever started it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from plumbline.errors import Unready
from streaming.broker.child import Child

MODULE: Final = "plumbline.cli.main"
READY_SECONDS: Final = 90.0
LOOK_SECONDS: Final = 0.05
STOP_SECONDS: Final = 20.0
LAST_LINES: Final = 8


def command(*arguments: str) -> list[str]:
    """The command line of a verb, run by this very interpreter."""
    return [sys.executable, "-m", MODULE, *arguments]


def step(environ: Mapping[str, str], *arguments: str, given: str | None = None, allowed: Sequence[int] = (0,)) -> str:
    """Run a verb to its end, its progress shown; returns what it printed.

    given: text for its standard input; allowed: exit codes that are no failure. Raises Unready when it fails; it has
    said why.
    """
    done = subprocess.run(
        command(*arguments), env=dict(environ), input=given, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode not in allowed:
        raise Unready(f"`plumbline {arguments[0]}` failed with exit code {done.returncode}: its message stands above")
    return done.stdout


@dataclass(slots=True)
class Part:
    """A running process."""

    name: str
    child: Child
    log: Path
    begins_at: int

    def said(self) -> list[dict[str, Any]]:
        """The JSON objects it has printed since it was started, each on a line of its own."""
        found = []
        for line in self._lines():
            if line.startswith("{"):
                try:
                    found.append(json.loads(line))
                except json.JSONDecodeError:
                    continue  # half a line so far, or a log line that only looks like one
        return found

    def wait_for(self, **wanted: Any) -> dict[str, Any]:
        """The first JSON object that has these values (`...` is any value).

        Raises Unready when the process ends before it prints one, or takes longer than 90 s.
        """
        waited = 0.0
        while waited < READY_SECONDS:
            for each in self.said():
                if all(name in each and value in (..., each[name]) for name, value in wanted.items()):
                    return each
            if self.child.ended.wait(LOOK_SECONDS):
                raise Unready(self.obituary())
            waited += LOOK_SECONDS
        raise Unready(f"{self.name} was not ready after {READY_SECONDS:.0f} s; its log is {self.log}")

    def obituary(self) -> str:
        """One sentence about its end, with the last lines of its log."""
        last = "\n  ".join(self._lines()[-LAST_LINES:])
        return f"{self.name} ended with exit code {self.child.exit_code}; its log {self.log} ends:\n  {last}"

    def stop(self) -> None:
        """Ask it to end, and wait; kill it when it does not."""
        self.child.stop(STOP_SECONDS)

    def _lines(self) -> list[str]:
        with self.log.open("rb") as file:
            file.seek(self.begins_at)
            return file.read().decode(errors="replace").splitlines()


def start(
    name: str, environ: Mapping[str, str], logs: Path, arguments: Sequence[str], module: Sequence[str] = (MODULE,)
) -> Part:  # fmt: skip
    """Start a verb as a part; its output goes to a log named after the part.

    module: what the interpreter runs, with arguments of its own before the verb.
    """
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name}.log"
    begins_at = log.stat().st_size if log.exists() else 0
    variables = [f"{key}={value}" for key, value in environ.items() if os.environ.get(key) != value]
    child = Child(["env", *variables, sys.executable, "-m", *module, *arguments], log)
    while not log.exists() and not child.ended.wait(LOOK_SECONDS):
        continue
    return Part(name, child, log, begins_at)
