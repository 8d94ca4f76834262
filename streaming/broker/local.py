"""A real Apache Kafka on this machine, for a laptop and for tests: one node, loopback only, gone when we are gone."""

import random
import shutil
import signal
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

from plumbline.errors import Unready
from streaming.broker.child import Child
from streaming.broker.recipe import HOST, recipe

log = structlog.get_logger()

FREE_MIN_BYTES: Final = 2**30
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
LOOK_SECONDS: Final = 0.05
ATTEMPTS: Final = 3

# Below the range from which the kernel draws ports of outgoing connections (32768 and up on Linux): otherwise a client
# that keeps trying while the broker is down can be given the broker's own port, and even connect to itself there.
PORTS: Final = range(20_000, 32_000)


class LocalBroker:
    """One broker process over a data folder; a context manager. `bootstrap` keeps its port over restarts."""

    def __init__(self, data_dir: Path | str, port: int = 0, *, jars_dir: Path | None = None) -> None:
        """Nothing starts yet.

        data_dir: Plumbline's data folder (the broker uses `kafka/` and `logs/` in it); port: 0 picks a free one;
        jars_dir: where Kafka's jars are kept. Raises Unready when there is no Java for it.
        """
        self._data_dir = Path(data_dir).absolute()
        self._recipe = recipe(self._data_dir, jars_dir)
        self._child: Child | None = None
        self.port = port

    @property
    def version(self) -> str:
        """Version of Apache Kafka."""
        return self._recipe.version

    @property
    def log_file(self) -> Path:
        """The broker's own log."""
        return self._recipe.log_file

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the running broker; raises Unready when it does not run."""
        return self._running().pid

    def start(self) -> Self:
        """Starts it and returns once it answers. Raises Unready with one sentence that says what to do."""
        if self._child is not None and self._child.ended.is_set():
            self._child = None
        _require_disk(self._data_dir)
        attempt = 1
        while self._child is None:
            port = self.port or free_port()
            require_free(port)
            try:
                self._child = self._start_once(port)
            except _PortTaken as taken:
                # Somebody took a port between our look and the broker's; the controller's may also be the one.
                if attempt == ATTEMPTS:
                    raise
                log.info("trying again", reason=str(taken))
                attempt += 1
            else:
                self.port = port
        return self

    def _start_once(self, port: int) -> Child:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        written = self.log_file.stat().st_size if self.log_file.exists() else 0
        child = Child(self._recipe.command(port, free_port()), self.log_file)
        deadline = time.monotonic() + START_SECONDS
        try:
            while not answers(port):
                if child.ended.wait(LOOK_SECONDS):
                    raise _explained(self.log_file, written, child.exit_code, port)
                if time.monotonic() > deadline:
                    raise Unready(
                        f"the broker on {HOST}:{port} did not answer within {START_SECONDS:.0f} s: see {self.log_file}"
                    )
        except BaseException:
            child.kill()
            raise
        return child

    def wait(self, seconds: float | None = None) -> bool:
        """Waits until the broker ends by itself; True when it has."""
        return self._running().ended.wait(seconds)

    def stop(self) -> None:
        """Asks it to end and waits; kills it after 20 s. Nothing happens when it does not run."""
        if self._child is not None:
            self._child.stop(STOP_SECONDS)
            self._child = None

    def kill(self) -> None:
        """SIGKILL, as a crash would: no clean shutdown. `restart` brings it back with what it had written."""
        self._running().kill()
        self._child = None

    def restart(self) -> None:
        """Stops it when it runs, and starts it again on the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, as with a machine that hangs."""
        self._running().send(signal.SIGSTOP)

    def resume(self) -> None:
        """Ends a pause."""
        self._running().send(signal.SIGCONT)

    def _running(self) -> Child:
        if self._child is None:
            raise Unready(f"the broker of {self._data_dir} does not run: start it first")
        return self._child

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def answers(port: int) -> bool:
    """Whether a broker listens there, speaks Kafka's protocol, and counts itself as ready to serve clients."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        with socket.create_connection((HOST, port), timeout=1):
            pass
    except OSError:
        return False
    try:
        admin = KafkaAdminClient(bootstrap_servers=f"{HOST}:{port}", request_timeout_ms=5000, reconnect_backoff_ms=20)
    except KafkaError as error:
        log.debug("the broker does not answer yet", port=port, error=str(error))
        return False
    try:
        return bool(admin.describe_cluster()["brokers"])
    except KafkaError as error:
        log.debug("the broker does not answer yet", port=port, error=str(error))
        return False
    finally:
        admin.close()


def free_port() -> int:
    """A port of the loopback address on which nothing listens at present."""
    draw = random.SystemRandom()
    while True:
        port = draw.choice(PORTS)
        if _refusal(port) is None:
            return port


class _PortTaken(Unready):
    """The port was free a moment ago."""


def require_free(port: int) -> None:
    """Raises Unready when something listens on this port of the loopback address."""
    if (error := _refusal(port)) is not None:
        raise _PortTaken(
            f"port {port} on {HOST} cannot be used ({error.strerror}): stop the program that holds it, or choose "
            "another one with --port (0 picks a free one)"
        )


def _refusal(port: int) -> OSError | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error
    return None


def _require_disk(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < FREE_MIN_BYTES:
        raise Unready(
            f"{folder} has {free // 2**20} MiB of free disk space, and the broker needs {FREE_MIN_BYTES // 2**20}: "
            "make room, or choose another folder with --data-dir"
        )


def _explained(log_file: Path, written: int, exit_code: int | None, port: int) -> Unready:
    with log_file.open("rb") as stream:
        stream.seek(written if written <= log_file.stat().st_size else 0)
        text = stream.read().decode(errors="replace")
    if "Address already in use" in text:
        return _PortTaken(
            f"port {port} on {HOST}, or the controller's, was taken while the broker started: start again"
        )
    lines = [line for line in text.splitlines() if " ERROR " in line or " FATAL " in line or "Exception" in line]
    reason = f" ({lines[0][:300]})" if lines else ""
    return Unready(f"the broker ended while it started, exit code {exit_code}{reason}: see {log_file}")
