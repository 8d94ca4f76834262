"""A whole installation of real processes that can be killed, frozen and started again, one part at a time.

Broker, model server, ledger on SQLite and two scorers, each a `plumbline` verb as in production, over one data folder.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Final

from streaming.broker.local import LocalBroker, free_port
from streaming.parts import MODULE, Part, start, step

SCORERS: Final = ("scorer-a", "scorer-b")
PROCESSES: Final = ("broker", "model", "ledger", *SCORERS)
PARTITIONS: Final = 4


class Site:
    """The processes by name, which of them run, and which stand still."""

    def __init__(
        self, folder: Path, models: Path | None = None, *, keep_versions: int = 1, guarded: bool = False,
        **settings: object,
    ) -> None:  # fmt: skip
        """Nothing starts yet.

        folder: an empty data folder; models: base path of the model's versions, small ones are made when it is not
        given; keep_versions: how many of the newest are served, or made; guarded: with a guard; settings: fields of
        `plumbline.settings` other than their defaults.
        """
        self.keep_versions = keep_versions
        self.processes = (*PROCESSES, "guard") if guarded else PROCESSES
        self.folder = folder
        self.models = models
        self.broker = LocalBroker(folder)
        self.model_port = free_port()  # kept over restarts
        self.parts: dict[str, Part] = {}
        self.frozen: set[str] = set()
        self._broker_runs = False
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE_")}
        self.environ = kept | {f"PLUMBLINE_{name.upper()}": str(value) for name, value in settings.items()}
        self.environ["PLUMBLINE_DATA_DIR"] = str(folder)
        self.environ["PLUMBLINE_MODEL_SERVER"] = f"127.0.0.1:{self.model_port}"

    @property
    def models_folder(self) -> Path:
        """Where the versions that are served lie."""
        if self.models is None:
            raise AssertionError("the models are made when the site begins")
        return self.models

    def begin(self, backfill: Sequence[str] = ()) -> None:
        """Make what is made once, start every process, and return when the first decision could be made.

        backfill: a verb that is called once there are topics, and before a scorer begins the journal; none when empty.
        """
        made_here = self.models is None
        if self.models is None:
            self.models = self.folder / "models" / "plumbline"
            self.models.parent.mkdir(parents=True)
            numbers = [str(number) for number in range(1, self.keep_versions + 1)]
            made = [sys.executable, "-m", "tests.declared_model", str(self.models), *numbers]
            subprocess.run(made, check=True, capture_output=True)
        self.start("broker")
        self.environ["PLUMBLINE_KAFKA_BOOTSTRAP"] = self.broker.bootstrap
        self.environ["PLUMBLINE_MESSAGE_MAX_AGE_DAYS"] = "36500"  # fixed days are played, whenever this runs
        self.environ["PLUMBLINE_TRANSACTIONS_PARTITIONS"] = str(PARTITIONS)
        step(self.environ, "topics", "--json")
        if backfill:
            step(self.environ, *backfill)
        step(self.environ, "migrate", "--json")
        for name in self.processes[1:]:
            self.start(name)
        self.parts["model"].wait_for(state="serving")
        for number in range(1, self.keep_versions + 1) if made_here else ():
            self.parts["model"].wait_for(state="serving", version=number)
        for name in SCORERS:
            self.parts[name].wait_for(state="standing by")

    def end(self) -> dict[str, int | None]:
        """Ask every process but the broker to end; returns their exit codes (the model server's is of no interest)."""
        for name in tuple(self.frozen):
            self.thaw(name)
        for part in self.parts.values():
            part.stop()
        return {name: part.child.exit_code for name, part in self.parts.items() if name != "model"}

    def start(self, name: str) -> None:
        """Start a process that does not run; for the broker, wait until it answers."""
        if name == "broker":
            self.broker.start()
            self._broker_runs = True
            return
        verb = "score" if name in SCORERS else {"model": "serve"}.get(name, name)
        arguments = [verb] if name == "ledger" else [verb, "--json"]
        if name == "model":
            arguments = [
                verb, "--model-base-path", str(self.models), "--port", str(self.model_port), "--no-rest",
                "--json-ready", "--keep-versions", str(self.keep_versions),
            ]  # fmt: skip
        module = ["benchmarks.stepped_clock", str(self.clock_of(name))] if name in SCORERS else [MODULE]
        self.parts[name] = start(name, self.environ, self.folder / "logs", arguments, module)

    def clock_of(self, name: str) -> Path:
        """The file that says by how many seconds a scorer's wall clock is off; none where it is right."""
        return self.folder / f"clock-of-{name}"

    def kill(self, name: str) -> None:
        """SIGKILL, also of one that stands still, and wait until it is gone."""
        self.frozen.discard(name)
        if name == "broker":
            self._broker_runs = False
            self.broker.kill()
        else:
            self.parts[name].child.kill()

    def freeze(self, name: str) -> None:
        """SIGSTOP: its connections stay open, and nothing answers."""
        self.frozen.add(name)
        if name == "broker":
            self.broker.pause()
        else:
            self.parts[name].child.send(SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        self.frozen.discard(name)
        if name == "broker":
            self.broker.resume()
        else:
            self.parts[name].child.send(SIGCONT)

    def runs(self, name: str) -> bool:
        """Whether the process is there, frozen or not."""
        if name == "broker":
            return self._broker_runs and not self.broker.wait(0)
        return not self.parts[name].child.ended.is_set()

    def leader(self) -> str | None:
        """The running scorer that said last that it leads."""
        for name in SCORERS:
            said = self.parts[name].said()
            if self.runs(name) and name not in self.frozen and said and said[-1].get("state") == "leading":
                return name
        return None

    def serves(self) -> bool:
        """Whether the model server has said that it serves a version."""
        return self.runs("model") and any(each.get("state") == "serving" for each in self.parts["model"].said())
