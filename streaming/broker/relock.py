"""`python -m streaming.broker.relock 4.4.0 2.25.5`: writes `kafka-jars.lock` anew for a version of Kafka and of Log4j.

`python -m streaming.broker.relock flink 2.2 2.77.0` writes `flink-jars.lock`: the job server that Beam's release 2.77.0
has for Flink 2.2, one jar with all that it needs.

For maintainers, with Maven installed: Maven works out what the server needs at run time, and the lock pins the
result. Read the difference before committing it.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from streaming.broker.jars import FLINK_LOCK, LOCK, SERVER, Jar, pom, resolve_with_maven

RESOLVE = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:list"


def lines(kafka: str, log4j: str) -> list[str]:
    """The lock's lines: every jar in the run-time closure of the Kafka server and of SLF4J's binding to Log4j."""
    roots = (
        Jar("org.apache.kafka", SERVER, kafka, ""),
        Jar("org.apache.logging.log4j", "log4j-slf4j-impl", log4j, ""),
    )
    with tempfile.TemporaryDirectory() as project:
        Path(project, "pom.xml").write_text(pom(roots))
        listing = Path(project, "list.txt")
        subprocess.run(
            ["mvn", "-B", "-q", RESOLVE, "-DincludeScope=runtime", "-DoutputAbsoluteArtifactFilename=true",
             f"-DoutputFile={listing}"],
            cwd=project, check=True,
        )  # fmt: skip
        found = re.findall(r"^\s+([\w.-]+):([\w.-]+):jar:([\w.-]+):\w+:(\S+\.jar)", listing.read_text(), re.MULTILINE)
    return sorted(
        f"{group}:{artifact}:{version} {hashlib.sha256(Path(path).read_bytes()).hexdigest()}"
        for group, artifact, version, path in found
    )


def flink_lines(flink: str, beam: str) -> list[str]:
    """The lock's line for Beam's job server. Raises Unready where no Maven repository at hand holds it."""
    jar = Jar("org.apache.beam", f"beam-runners-flink-{flink}-job-server", beam, "")
    with tempfile.TemporaryDirectory() as folder:
        resolve_with_maven([jar], Path(folder))
        digest = hashlib.sha256(Path(folder, jar.file).read_bytes()).hexdigest()
    return [f"{jar.coordinates} {digest}"]


def main(arguments: list[str]) -> None:
    """Write the lock that the arguments name, with a first line that says how."""
    head = f"# Written by `python -m streaming.broker.relock {' '.join(arguments)}`."
    if arguments[0] == "flink":
        FLINK_LOCK.write_text("\n".join([head, *flink_lines(*arguments[1:])]) + "\n")
    else:
        LOCK.write_text("\n".join([head, *lines(*arguments)]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
