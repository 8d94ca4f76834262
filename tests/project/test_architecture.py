"""What import-linter cannot state: exact imports of the language, and no clock or chance in the core."""

import ast
import configparser
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted({path.parent.name for path in ROOT.glob("*/__init__.py")} - {"benchmarks"})

# Where a process meets the world: a clock is read, or a client's name is drawn, and handed down as a value.
SHELLS = {"app/news.py", "app/journal.py", "store/releases.py", "streaming/kafka.py"}
CLOCKS = re.compile(r"\btime\.time(_ns)?\(|\bdatetime\.now\(|\butcnow\(|\bdate\.today\(|\buuid[14]\(")
CHANCE = re.compile(r"\brandom\.(random|randint|choice|shuffle)\(|np\.random\.(rand|randn|randint|seed|shuffle)\(")


def sources(*packages: str) -> Iterator[Path]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            if not path.stem.endswith(("_pb2", "_pb2_grpc")):
                yield path


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


LANGUAGE = sorted((ROOT / "plumbline").glob("*.py"))


@pytest.mark.parametrize("path", LANGUAGE, ids=lambda path: path.stem)
def test_the_language_imports_the_standard_library_and_msgspec_alone(path: Path) -> None:
    allowed = sys.stdlib_module_names | {"msgspec", "plumbline"}
    assert {name for name in imported(path) if name.partition(".")[0] not in allowed} == set()
    assert not {name for name in imported(path) if name.startswith("plumbline.cli")}


def test_the_import_contract_lists_every_module_of_the_language() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    listed = contracts["importlinter:contract:language"]["source_modules"].split()
    assert sorted(listed) == [f"plumbline.{path.stem}" for path in LANGUAGE if path.stem != "__init__"]


def test_every_package_stands_under_the_import_contracts() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    assert sorted(contracts["importlinter"]["root_packages"].split()) == PACKAGES
    layers = re.findall(r"[a-z.]+", contracts["importlinter:contract:layers"]["layers"])
    assert sorted(layers) == sorted({*PACKAGES, "plumbline.cli"} - {"plumbline"})


def test_every_package_is_installed_checked_and_copied_into_the_images() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert sorted(tools["setuptools"]["packages"]["find"]["include"]) == [f"{name}*" for name in PACKAGES]
    assert {*PACKAGES, "benchmarks", "tests"} <= set(tools["mypy"]["files"])
    assert set(tools["ruff"]["lint"]["isort"]["known-first-party"]) == {*PACKAGES, "benchmarks"}
    copied = re.findall(r"^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert sorted(copied) == PACKAGES


def test_no_clock_is_read_in_the_core() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for path in sources(*PACKAGES)
        if CLOCKS.search(path.read_text(encoding="utf-8")) and "cli" not in path.parts
    }
    assert readers <= SHELLS


def test_no_chance_without_a_seed_in_any_package() -> None:
    assert [str(path) for path in sources(*PACKAGES) if CHANCE.search(path.read_text(encoding="utf-8"))] == []


def test_only_the_application_factory_stands_in_an_init_file() -> None:
    written = {
        str(path.relative_to(ROOT)) for path in sources(*PACKAGES) if path.name == "__init__.py" and path.stat().st_size
    }
    # A package may say in its docstring why it exists; code stands there in the app's factory alone.
    with_code = {
        name
        for name in written
        if any(not isinstance(node, ast.Expr) for node in ast.parse((ROOT / name).read_text(encoding="utf-8")).body)
    }
    assert with_code <= {"app/__init__.py"}


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"utils", "util", "helpers", "common", "base", "manager", "misc"}
    assert [str(path) for path in sources(*PACKAGES) if path.stem in drawers] == []


def test_no_source_file_is_longer_than_400_lines() -> None:
    assert {
        str(path.relative_to(ROOT)): lines
        for path in sources(*PACKAGES)
        if (lines := path.read_text(encoding="utf-8").count("\n")) > 400
    } == {}


def test_every_module_says_why_it_exists() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources(*PACKAGES, "benchmarks")
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_nothing_is_left_for_later_in_the_sources() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b(?!\")|NotImplementedError")
    # XXX is also a currency code; there it stands in quotation marks or in a sentence about ISO 4217.
    left = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources(*PACKAGES, "benchmarks")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if marks.search(line) and "4217" not in line
    ]
    assert left == []
