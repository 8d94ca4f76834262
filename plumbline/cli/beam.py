"""The Beam runner that the settings name, and the job server that goes with it, for as long as a command needs it.

    embedded   in this process                                        a laptop, tests, the audit
    flink      Beam's job server is started here, and Flink in it ("[local]") or at an address; see docs/beam.md
    portable   any other job server, at the --job_endpoint of PLUMBLINE_BEAM_OPTIONS
    dataflow   Google's service

A job server is a child process that cannot outlive this one, and listens on the loopback address alone.
"""

import contextlib
import functools
import os
import shlex
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from plumbline.errors import InvalidSetting, Unready

if TYPE_CHECKING:
    from features.runner import Runner
    from plumbline.settings import Settings
    from streaming.broker.child import Child

log = structlog.get_logger()

HOST: Final = "localhost"
START_SECONDS: Final = 120.0
PATIENCE_SECONDS: Final = 10.0
NOTICED_SECONDS: Final = 2.0
# Flink's memory is managed by Flink; this is the job server with an embedded cluster, which has it all.
JVM: Final = ("-Xms256m", "-Xmx2g", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true")
WORKER_POOL: Final = "localhost:50000"
"""Where a Flink task manager of `deploy/flink` finds the Python workers: in its own pod."""

DATAFLOW_NEEDS: Final = ("project", "region", "temp_location", "sdk_container_image")


@contextlib.contextmanager
def runner_of(given: "Settings") -> "Iterator[Runner]":
    """The runner of the settings, ready to take pipelines inside the `with` block.

    Raises Unready when this machine lacks what it needs, InvalidSetting when a flag is missing. A pipeline raises
    RunnerUnavailable when the job server has gone.
    """
    from features.runner import Runner

    options = tuple(shlex.split(given.beam_options))
    if given.beam_runner == "embedded":
        yield Runner(options=options)
    elif given.beam_runner == "dataflow":
        _require(given.beam_options, options, DATAFLOW_NEEDS)
        yield Runner("DataflowRunner", options)
    elif given.beam_runner == "portable":
        _require(given.beam_options, options, ("job_endpoint",))
        endpoint = next(each.partition("=")[2] for each in options if each.startswith("--job_endpoint="))
        flags = (*_absent(options, "--environment_type=LOOPBACK"), *options)
        yield Runner("PortableRunner", flags, functools.partial(_unreachable, endpoint))
    else:
        with job_server(flink_command(given), given.data_path / "logs" / "flink.log") as (endpoint, gone):
            added = (f"--job_endpoint={endpoint}", *_absent(options, *_flink_flags(given.flink_master)))
            yield Runner("PortableRunner", (*added, *options), gone)


def _flink_flags(master: str) -> tuple[str, ...]:
    """Python workers: in this process beside Flink in the job server, else in a pool beside each task manager."""
    if master == "[local]":
        return (f"--flink_master={master}", "--environment_type=LOOPBACK", f"--parallelism={os.cpu_count() or 1}")
    return (f"--flink_master={master}", "--environment_type=EXTERNAL", f"--environment_config={WORKER_POOL}")


def flink_command(given: "Settings") -> Callable[[int, Path], Sequence[str]]:
    """How Beam's Flink job server is started on a port, over a folder for what it stages.

    The jar is resolved through Maven as its lock says, and compared with the lock now. Raises Unready without a Java,
    without a lock, and when the jar cannot be had or differs.
    """
    from streaming.broker import jars
    from streaming.broker.java import JAVA_MIN, find_java

    java = find_java()
    if java is None:
        raise Unready(
            f"no Java {JAVA_MIN} or newer was found, which Beam's Flink job server needs: install one (or set "
            "JAVA_HOME), or set PLUMBLINE_BEAM_RUNNER=embedded"
        )
    lock = Path(given.flink_jars_lock) if given.flink_jars_lock else jars.FLINK_LOCK
    if not lock.is_file():
        raise Unready(
            f"{lock} names no job server of Beam for Flink: write it with `python -m streaming.broker.relock flink 2.2 "
            "2.77.0` where a Maven repository holds that jar, or set PLUMBLINE_BEAM_RUNNER=embedded"
        )
    folder = jars.ensure(lock=lock)
    [jar] = jars.locked(lock)
    master = given.flink_master
    return lambda port, staged: [
        java, *JVM, "-jar", str(folder / jar.file), "--flink-master", master, "--job-host", HOST,
        "--job-port", str(port), "--artifact-port", "0", "--expansion-port", "0", "--artifacts-dir", str(staged),
    ]  # fmt: skip


@contextlib.contextmanager
def job_server(
    command: Callable[[int, Path], Sequence[str]], log_file: Path
) -> "Iterator[tuple[str, Callable[[], str | None]]]":
    """A job server as a child process, which is ended after the block.

    Gives the host:port of its job API once it answers, and a function that says in words whether it has ended.
    command: from a free port and an empty folder for what is staged; its output is added to the log file.
    Raises Unready when it does not come up.
    """
    from streaming.broker.child import Child
    from streaming.broker.local import free_port

    log_file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="plumbline-beam-") as staged:
        port = free_port()
        child = Child(command(port, Path(staged)), log_file)
        try:
            _await(child, port, log_file)
            log.info("Beam's job server answers", port=port, pid=child.pid, log=str(log_file))
            yield f"{HOST}:{port}", functools.partial(_ended, child, log_file)
        finally:
            child.stop(PATIENCE_SECONDS)


def _ended(child: "Child", log_file: Path) -> str | None:
    """Words, where the child has ended; its end may be noticed a moment after a pipeline failed of it."""
    if not child.ended.wait(NOTICED_SECONDS):
        return None
    return f"Beam's job server ended while it was needed (exit code {child.exit_code}): see {log_file}"


def _unreachable(endpoint: str) -> str | None:
    host, _, port = endpoint.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS).close()
    except (OSError, ValueError) as error:
        return f"Beam's job server at {endpoint} cannot be reached ({error})"
    return None


def _await(child: "Child", port: int, log_file: Path) -> None:
    import grpc

    until = time.monotonic() + START_SECONDS
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        ready = grpc.channel_ready_future(channel)
        while not child.ended.is_set():
            with contextlib.suppress(grpc.FutureTimeoutError):
                ready.result(timeout=0.2)
                return
            if time.monotonic() > until:
                raise Unready(f"Beam's job server did not answer within {START_SECONDS:.0f} s: see {log_file}")
    last = log_file.read_text(errors="replace").strip().rsplit("\n", 1)[-1]
    raise Unready(f"Beam's job server ended at once (exit code {child.exit_code}: {last[:200]}): see {log_file}")


def _absent(options: Sequence[str], *added: str) -> tuple[str, ...]:
    """Those flags whose names are not among the options yet."""
    names = {each.partition("=")[0] for each in options}
    return tuple(flag for flag in added if flag.partition("=")[0] not in names)


def _require(text: str, options: Sequence[str], names: Sequence[str]) -> None:
    given = {each.partition("=")[0] for each in options}
    if missing := [f"--{name}=..." for name in names if f"--{name}" not in given]:
        raise InvalidSetting("environment", "PLUMBLINE_BEAM_OPTIONS", text, f"also {' '.join(missing)}")
