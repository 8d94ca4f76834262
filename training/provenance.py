"""From what a model was made besides its data: the commit of this code, and the packages that ran it."""

import getpass
import hashlib
import importlib.metadata
import subprocess
from pathlib import Path
from typing import Final

from archive.manifest import file_sha256

ROOT: Final = Path(__file__).parents[1]
LOCK: Final = "requirements.lock"
GIT_SECONDS: Final = 10.0


def code_commit(given: str = "", root: Path = ROOT) -> str:
    """The commit of the running code; `-dirty` behind it when files differ from it, empty where nobody knows.

    given: what the settings say, for an installation without git.
    """
    if given or not (root / ".git").exists():
        return given
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("-dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def lock_sha256(root: Path = ROOT) -> str:
    """SHA-256 of the lock file, or, where there is none, of the installed packages as `name==version` lines."""
    lock = root / LOCK
    if lock.is_file():
        return file_sha256(lock)
    installed = {f"{each.name.lower()}=={each.version}" for each in importlib.metadata.distributions()}
    return hashlib.sha256("\n".join(sorted(installed)).encode()).hexdigest()


def operator() -> str:
    """The log-in name of whoever runs this process; empty where the system has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True, timeout=GIT_SECONDS
    )
    return done.stdout.strip()
