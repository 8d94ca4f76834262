"""The scripts behind make: what they do on machines that lack something, with a PATH that shows only some commands."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "deploy" / "local"
ALWAYS = ("bash", "env", "dirname", "awk", "id", "grep", "rm", "cat")


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder with the few commands that every system has; nothing else is on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ALWAYS:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def run(name: str, commands: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(LOCAL / name)],
        env={"PATH": str(commands), "HOME": str(commands.parent), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_missing_is_installed_where_apt_and_root_are_there(commands: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script(commands / "apt-get", f'echo "$@" >>{log}')
    script(commands / "id", "echo 0")
    script(commands / "true", "exit 0")
    done = run("system.sh", commands)
    assert done.returncode == 0, done.stderr
    update, install = log.read_text().splitlines()
    assert update == "update -qq"
    assert {"chromium", "openjdk-17-jre-headless"} <= set(install.split())


def test_without_apt_the_missing_parts_are_named_and_nothing_fails(commands: Path) -> None:
    done = run("system.sh", commands)
    assert done.returncode == 0
    assert "not installed here" in done.stderr
    assert "chromium" in done.stderr


def test_an_old_java_counts_as_missing(commands: Path) -> None:
    script(commands / "chromium", "exit 0")
    script(commands / "java", """echo 'openjdk version "11.0.2" 2019-01-15' >&2""")
    assert "openjdk-17-jre-headless" in run("system.sh", commands).stderr
    script(commands / "java", """echo 'openjdk version "21.0.4" 2024-07-16' >&2""")
    done = run("system.sh", commands)
    assert "openjdk" not in done.stderr
    assert "chromium" not in done.stderr


def test_without_python_3_11_one_sentence_says_what_to_install(commands: Path, tmp_path: Path) -> None:
    script(commands / "python3", "exit 1")
    tree = tmp_path / "tree" / "deploy" / "local"
    tree.mkdir(parents=True)
    shutil.copy(LOCAL / "venv.sh", tree)
    done = subprocess.run(
        ["bash", str(tree / "venv.sh")], env={"PATH": str(commands)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Plumbline needs Python 3.11")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "tree" / ".venv").exists()


def test_digests_are_never_guessed(commands: Path) -> None:
    before = (ROOT / "deploy" / "images.lock").exists()
    done = subprocess.run(
        ["bash", str(ROOT / "deploy" / "digests.sh")],
        env={"PATH": str(commands)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "only with docker" in done.stderr
    assert (ROOT / "deploy" / "images.lock").exists() == before


def test_a_skip_in_continuous_integration_is_a_failure_that_says_why(tmp_path: Path) -> None:
    shutil.copy(ROOT / "conftest.py", tmp_path)
    skips = {
        "in_a_test": "def test_it(): pytest.skip('no Java')",
        "of_a_module": "pytest.skip('no Java', allow_module_level=True)",
        "by_a_mark": "@pytest.mark.skipif(True, reason='no Java')\ndef test_it(): pass",
    }
    for name, text in skips.items():
        (tmp_path / f"test_{name}.py").write_text(f"import pytest\n{text}\n")
    lenient = pytest_in(tmp_path, ci="")
    assert "3 skipped" in lenient.stdout
    assert lenient.returncode in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    strict = pytest_in(tmp_path, ci="true")
    assert strict.returncode not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    for name in skips:
        assert f"test_{name}.py was skipped" in strict.stdout or f"test_{name}.py::test_it was skipped" in strict.stdout
    assert strict.stdout.count("no Java") >= len(skips)


def pytest_in(folder: Path, ci: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--continue-on-collection-errors", "."],
        cwd=folder,
        env={**clean, "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
