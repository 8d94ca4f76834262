"""`python -m streaming.broker.relock 4.4.0 2.25.5`: writes `kafka-jars.lock` anew for a version of Kafka and of Log4j.

For maintainers, with Maven installed: Maven works out what the server needs at run time, and the lock pins the
result. Read the difference before committing it.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from streaming.broker.jars import LOCK, SERVER, Jar, pom

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


if __name__ == "__main__":
    kafka, log4j = sys.argv[1:]
    head = f"# Written by `python -m streaming.broker.relock {kafka} {log4j}`."
    LOCK.write_text("\n".join([head, *lines(kafka, log4j)]) + "\n")
