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


WALL_CLOCK = re.compile(r"_?(now_us|now_ms|wall)")
# Where two readings of the wall clock, or one and a stored time, are compared, and what comes of a clock that is set to
# another time meanwhile. Pauses, rounds, deadlines and rates count on `plumbline.clock.monotonic` alone.
COMPARED_WALL_CLOCK = {
    "app/api/core.py": "a payment of long ago is refused",
    "app/languages.py": "words on a page: a time of the future is shown as just now",
    "app/liveness.py": "clamped by what was seen on the monotonic clock",
    "app/recomputed.py": "for how long a page asks by itself whether its answer has come; Reload asks at any time",
    "app/warnings.py": "a warning about the last ten minutes' messages, on a page",
    "archive/columns.py": "a payment of the future is refused",
    "archive/rules.py": "a payment of the future is refused",
    "audit/waiting.py": "clamped by what was seen on the monotonic clock",
    "audit/watching.py": "a gauge: how far behind the journal",
    "plumbline/cli/retrain.py": "a cut-off in the future is refused",
    "plumbline/times.py": "a payment or label of the future is refused",
    "plumbline/transaction.py": "a payment of the future is refused",
    "release/carrying.py": "an approval expires after three days: an hour early or late",
    "release/guard.py": "a gauge: how far behind the journal",
    "release/incidents.py": "the journal's time, which never goes back",
    "release/judging.py": "the journal's time, which never goes back",
    "release/windows.py": "the journal's time, which never goes back",
    "retrain/pruning.py": "runs are removed after 400 days: an hour early or late, and never the newest",
    "serving/server/versions.py": "a folder that seems old is loaded at the first look, else at the second",
    "store/models.py": "a request expires after three days: an hour early or late",
    "store/overview.py": "figures of the last minutes, on a page",
    "streaming/broker_clock.py": "what it is there for: it finds steps of this clock",
    "streaming/memory.py": "the age of ids in days, by a leader whose clock agrees with the broker's",
    "streaming/play.py": "a payment of the future is not sent",
}


def parts(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of an expression, but for what is handed to functions that may do with it what they like."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(node, ast.Call) or getattr(node.func, "id", "") in {"min", "max", "abs", "int", "round"}:
            yield from parts(child)


def reads_wall_clock(expression: ast.AST, readings: set[str]) -> bool:
    """Whether a reading of the wall clock is part of an expression; readings: names of variables that hold one."""
    for part in parts(expression):
        read = part.func if isinstance(part, ast.Call) else part
        name = getattr(read, "attr", getattr(read, "id", ""))
        if WALL_CLOCK.fullmatch(name) or name in readings or (isinstance(part, ast.Call) and name == "now"):
            return True
    return False


def compares_wall_clock(tree: ast.AST) -> bool:
    """Whether a reading of the wall clock is compared with another time, or another time taken from it."""
    readings: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and reads_wall_clock(node.value, set()):
            readings |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    orders = ast.Lt | ast.LtE | ast.Gt | ast.GtE
    return any(
        reads_wall_clock(node, readings)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Compare) and isinstance(node.ops[0], orders))
        or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub))
    )


def test_nothing_is_due_by_the_wall_clock() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in sources(*PACKAGES)
        if compares_wall_clock(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set(COMPARED_WALL_CLOCK), "say what a step of the clock does there, or count on the monotonic one"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("if self._now_us() >= self._look_us: pass", True),
        ("waited = ledger.now() - heard_at", True),
        ("old = row.updated_at < now_us - LIMIT", True),
        ("now = self._now_us()\nif now > due: pass", True),
        ("seconds = now_us // 1_000_000\nrecent = Tally.second >= seconds", True),
        ("if self._monotonic() >= due: pass", False),
        ("now = time.monotonic()\nif now >= due: pass", False),
        ("silent = age_seconds(row.updated_at, now_us) > LIMIT", False),
        ("row.updated_at = now_us()", False),
        ("until = now_us + PAUSE_US", False),
    ],
)
def test_a_comparison_with_the_wall_clock_is_found(source: str, found: bool) -> None:
    assert compares_wall_clock(ast.parse(source)) is found


# Of two processes that write the same first row, `merge` lets the second fail; and a row lock is no lock on SQLite.
LOOKED_BEFORE_WRITTEN = re.compile(r"session\.merge\(|with_for_update")


def test_rows_are_not_looked_at_first_and_written_afterwards() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in sources(*PACKAGES)
        if LOOKED_BEFORE_WRITTEN.search(path.read_text(encoding="utf-8"))
    }
    # A wish is inserted by one statement; PostgreSQL's row lock is beside it, and SQLite has one writer.
    assert found <= {"store/watch.py"}, (
        "write by one statement: store/upsert.py, or an UPDATE that says what it expects"
    )


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
