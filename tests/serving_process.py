"""The embedded model server as a real process, for tests of any package; importing this is cheap."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 120.0
"""TensorFlow takes 7 seconds to import on an idle machine, and far more on one that runs other tests."""


def free_port() -> int:
    """A TCP port that nothing listens on at the moment, and that no outgoing connection is given.

    A client that keeps trying while its server is down could otherwise be given the server's own port.
    """
    draw = random.SystemRandom()
    while True:
        port = draw.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def small_models(factory: pytest.TempPathFactory) -> Path:
    """The folder that `tests.serving_model` wrote, made once for all workers of a test run."""
    import fcntl

    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "small-models"
    with (shared / "small-models.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            subprocess.run([sys.executable, "-m", "tests.serving_model", str(folder)], check=True, capture_output=True)
            (folder / "complete").touch()
    return folder


class ModelServer:
    """`plumbline serve` as a child process; a context manager that ends it."""

    def __init__(
        self,
        base_path: Path,
        log: Path,
        model_name: str = "plumbline",
        port: int = 0,
        poll_seconds: float = 0.1,
        more: Sequence[str] = (),
    ) -> None:
        self.base_path = base_path
        self.log = log
        self.model_name = model_name
        self.port = port
        self.rest_port = 0
        self.poll_seconds = poll_seconds
        self.more = more
        self.events: list[dict[str, Any]] = []
        self._told = threading.Condition()

    def start(self) -> "ModelServer":
        """Start it and wait until its ports are held."""
        arguments = ["--model-base-path", str(self.base_path), "--model-name", self.model_name]
        self.port = self.port or free_port()  # it keeps its port over restarts
        arguments += [
            "--port",
            str(self.port),
            "--rest-port",
            "0",
            "--poll-seconds",
            str(self.poll_seconds),
            *self.more,
        ]
        # A list of its own for every process: the end of the one before may be noticed late.
        self.events = events = []
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "plumbline.cli.main", "serve", *arguments, "--json-ready"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        threading.Thread(target=self._listen, args=(self.process, events), daemon=True).start()
        event = self.wait_for("listening")
        self.port, self.rest_port = event["port"], event["rest_port"]
        return self

    def _listen(self, process: "subprocess.Popen[str]", events: list[dict[str, Any]]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with self._told:
                events.append(json.loads(line))
                self._told.notify_all()
        with self._told:
            events.append({"state": "ended"})
            self._told.notify_all()

    def wait_for(self, state: str, version: int | None = None, seconds: float = START_SECONDS) -> dict[str, Any]:
        """The event in which the server told of this state, waited for where it has not come yet."""

        def found() -> dict[str, Any] | None:
            for event in self.events:
                if event["state"] == state and version in (None, event.get("version")):
                    return event
            return None

        with self._told:
            self._told.wait_for(lambda: found() or any(event["state"] == "ended" for event in self.events), seconds)
            event = found()
        if event is None:
            raise AssertionError(
                f"no {state} {version or ''} in {self.events}; the log ends: {self.log.read_text()[-2000:]}"
            )
        return event

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def freeze(self) -> None:
        """Make it hang: SIGSTOP, and return once every thread of it stands still."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 30.0) -> int:
        """End it with SIGTERM and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def __enter__(self) -> "ModelServer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def target(self) -> str:
        """host:port of gRPC."""
        return f"127.0.0.1:{self.port}"


def until(condition: Any, seconds: float = 30.0) -> Any:
    """What a condition returns once that is true; a process outside tells of its changes only when it is asked."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} seconds: {condition}")
        time.sleep(0.02)
    return value
