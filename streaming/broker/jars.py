"""Jars from Maven: named and hashed in a lock file, resolved once, kept in a folder that all clones share.

There are two locks: `kafka-jars.lock`, Apache Kafka's server with all that it needs, and `flink-jars.lock`, the job
server through which Beam runs on Apache Flink.

Maven resolves them when it is installed, because it knows this machine's mirrors and proxies; else `jgo` does, from
Python. Whoever brought them, every jar is compared with the lock before it may run, and again at each start.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

import structlog

from plumbline.errors import Unready

log = structlog.get_logger()

LOCK: Final = Path(__file__).with_name("kafka-jars.lock")
FLINK_LOCK: Final = Path(__file__).with_name("flink-jars.lock")
SERVER: Final = "kafka_2.13"
MAVEN_COPY: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock: Maven coordinates and the SHA-256 of the file, in lower-case hex."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """Name of the jar in the folder."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def coordinates(self) -> str:
        """group:artifact:version."""
        return f"{self.group}:{self.artifact}:{self.version}"


Resolver = Callable[[Sequence[Jar], Path], None]
"""Puts the jars into a folder, each under its `file` name; raises Unready when it cannot."""


def locked(lock: Path = LOCK) -> tuple[Jar, ...]:
    """The jars of a lock file, whose lines are `group:artifact:version sha256` and comments after #."""
    jars = []
    for line in lock.read_text().splitlines():
        words = line.partition("#")[0].split()
        if words:
            coordinates, sha256 = words
            group, artifact, version = coordinates.split(":")
            jars.append(Jar(group, artifact, version, sha256))
    return tuple(jars)


def kafka_version(jars: Sequence[Jar]) -> str:
    """Version of the Kafka server among the jars."""
    return next(jar.version for jar in jars if jar.artifact == SERVER)


def main_version(jars: Sequence[Jar]) -> str:
    """Version of what the lock is for: the Kafka server's, else that of its first jar."""
    return next((jar.version for jar in jars if jar.artifact == SERVER), jars[0].version)


def shared_folder(lock: Path = LOCK) -> Path:
    """Where this lock's jars are kept for all clones: under XDG_CACHE_HOME, else ~/.cache."""
    product = lock.stem.removesuffix("-jars")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    return cache / "plumbline" / f"{product}-{main_version(locked(lock))}-{digest}"


def ensure(folder: Path | None = None, lock: Path = LOCK, resolve: Resolver | None = None) -> Path:
    """The folder with every jar of the lock, verified; resolved first when it is not there.

    folder: None means `shared_folder`. A folder appears whole or not at all: jars are resolved and verified beside it
    and then renamed. Raises Unready when they cannot be had, or when one differs from the lock.
    """
    jars = locked(lock)
    folder = shared_folder(lock) if folder is None else folder
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".jars-", dir=folder.parent) as beside:
            fresh = Path(beside) / "jars"
            fresh.mkdir()
            log.info("resolving jars", lock=lock.name, version=main_version(jars), jars=len(jars), folder=str(folder))
            try:
                (resolve or _resolver())(jars, fresh)
            except Unready as error:
                raise Unready(f"{error}, or copy the folder {shared_folder(lock)} from one that has it") from error
            verify(jars, fresh)
            try:
                fresh.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
                log.debug("another process resolved the jars first", folder=str(folder))
    verify(jars, folder)
    return folder


def verify(jars: Sequence[Jar], folder: Path) -> None:
    """Raises Unready unless the folder holds exactly these jars, each with its locked SHA-256."""
    wanted = {jar.file: jar for jar in jars}
    present = {path.name for path in folder.glob("*.jar")}
    if extra := sorted(present - wanted.keys()):
        raise Unready(f"{folder / extra[0]} is not in the lock of these jars: delete {folder} and start again")
    for name, jar in wanted.items():
        if name not in present:
            raise Unready(f"{folder / name} is missing: delete {folder} and start again, so that it is resolved anew")
        with (folder / name).open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != jar.sha256:
            raise Unready(
                f"{folder / name} has SHA-256 {found}, but the lock says {jar.sha256}: it was changed or cut short; "
                f"delete {folder} and start again, and if it differs once more, distrust its source"
            )


def _resolver() -> Resolver:
    return resolve_with_maven if shutil.which("mvn") else resolve_with_jgo


def resolve_with_maven(jars: Sequence[Jar], folder: Path) -> None:
    """Lets the installed `mvn` copy exactly these jars, nothing transitive, into the folder."""
    with tempfile.TemporaryDirectory(prefix="plumbline-pom-") as project:
        Path(project, "pom.xml").write_text(pom(jars))
        command = ["mvn", "--batch-mode", "--quiet", MAVEN_COPY, f"-DoutputDirectory={folder}", "-DexcludeTransitive"]
        done = subprocess.run(
            command, check=False, cwd=project, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    if done.returncode != 0:
        reason = next((line for line in done.stdout.splitlines() if "ERROR" in line), f"exit code {done.returncode}")
        raise Unready(_no_jars("mvn", reason))


def resolve_with_jgo(jars: Sequence[Jar], folder: Path) -> None:
    """Lets `jgo` fetch exactly these jars into the folder, where Maven is not installed."""
    from jgo.maven import MavenContext

    context = MavenContext()
    for jar in jars:
        try:
            path = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise Unready(_no_jars("jgo", f"{jar.coordinates}: {error}")) from error
        shutil.copyfile(path, folder / jar.file)


def _no_jars(tool: str, reason: str) -> str:
    return (
        f"the jars cannot be resolved with {tool} ({reason.strip()[:300]}): connect this machine to a Maven repository "
        "that holds them"
    )


def pom(jars: Sequence[Jar]) -> str:
    dependencies = "".join(
        f"<dependency><groupId>{escape(jar.group)}</groupId><artifactId>{escape(jar.artifact)}</artifactId>"
        f"<version>{escape(jar.version)}</version></dependency>"
        for jar in jars
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>plumbline</groupId><artifactId>jars</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )
