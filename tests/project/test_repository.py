"""What a newcomer meets first: make, the lock file, the hooks, and nothing large or strange among the tracked files."""

import re
import subprocess
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LARGEST_BYTES = 5 * 1024 * 1024


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        return [path for path in ROOT.rglob("*") if path.is_file() and not {".venv", "var"} & set(path.parts)]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_is_larger_than_5_mib() -> None:
    assert [path for path in tracked() if path.stat().st_size > LARGEST_BYTES] == []


def test_every_locked_package_has_hashes_and_no_index_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    packages = re.split(r"^(?=[a-zA-Z0-9])", lock, flags=re.MULTILINE)[1:]
    assert len(packages) > 100
    assert [text.partition("\n")[0] for text in packages if "--hash=sha256:" not in text] == []
    assert not re.search(r"https?://|--index-url|--find-links", lock)


def test_every_declared_requirement_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[\[=<>!~ ]", name)[0].lower().replace("_", "-") for name in declared}
    locked = set(re.findall(r"^([a-z0-9.-]+)(?:\[[^]]*\])?==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert names - locked == set()


def test_make_alone_lists_every_target_with_its_purpose() -> None:
    printed = subprocess.run(["make", "--silent"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for target in ("demo", "test", "check", "bench", "lock", "clean", "help"):
        assert re.search(rf"^  make {target} +\S", printed, re.MULTILINE), target


def test_the_hooks_run_the_same_list_as_make_check() -> None:
    planned = subprocess.run(
        ["make", "--dry-run", "--silent", "static"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    assert [hook["entry"] for hook in hooks[0]["hooks"]] == planned.splitlines()


def test_ci_runs_what_anybody_can_run() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert script.rstrip().endswith("\nmake test")
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_test_files_have_names_of_their_own_and_no_packages() -> None:
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize("script", sorted((ROOT / "deploy").rglob("*.sh")), ids=lambda path: path.name)
def test_every_script_is_executable_and_stops_at_the_first_error(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    assert re.search(r"^set -euo? ?", script.read_text(), re.MULTILINE)
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_the_licence_is_apache_2_whole() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
