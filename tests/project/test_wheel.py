"""The wheel that images install carries every file that the packages need at run time."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted({path.parent.name for path in ROOT.glob("*/__init__.py")} - {"benchmarks"})
NOT_FOR_RUN_TIME = {"package.json", "package-lock.json", "babel.cfg"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    # Built from a copy, since setuptools leaves its traces beside the sources.
    tree = folder / "tree"
    names = ["pyproject.toml", "README.md", "LICENSE", *PACKAGES]
    tree.mkdir()
    subprocess.run(["cp", "-r", *[str(ROOT / name) for name in names], str(tree)], check=True)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-qq",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "-w",
            ".",
            "./tree",
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_every_file_of_the_packages_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    needed = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name not in NOT_FOR_RUN_TIME
    }
    assert needed - set(wheel.namelist()) == set()


def test_the_wheel_holds_the_command_and_the_licence_and_no_tests(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    entry_points = next(name for name in names if name.endswith("entry_points.txt"))
    assert b"plumbline = plumbline.cli.main:main" in wheel.read(entry_points)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "docs", "conftest"))]
