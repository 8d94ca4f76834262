"""The documentation agrees with the code: nothing undocumented, no dead link, no command that does not exist."""

import re
from pathlib import Path

import pytest

from plumbline.cli import main as cli
from plumbline.names import METRICS, Topic
from plumbline.settings import Settings, variable

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])
LINK = re.compile(r"!?\[[^]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```(?:sh|bash|console)?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def headings(page: Path) -> set[str]:
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    dead = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in headings(there)):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_in_the_documentation_exists(page: Path) -> None:
    blocks = "\n".join(FENCED.findall(page.read_text(encoding="utf-8")))
    verbs = set(re.findall(r"^(?:\$ )?(?:\S*/)?plumbline ([a-z][a-z-]*)", blocks, re.MULTILINE))
    assert verbs <= set(cli.VERBS)
    targets = set(re.findall(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*make ([a-z]+)", blocks, re.MULTILINE))
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets <= made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_variable_in_the_documentation_exists(page: Path) -> None:
    known = {variable(name) for name in Settings.__struct_fields__}
    known |= {variable(name) + "_FILE" for name in ("secret_key", "password_salt")}
    mentioned = set(re.findall(r"\bPLUMBLINE_[A-Z0-9_]+[A-Z0-9]\b", page.read_text(encoding="utf-8")))
    assert mentioned <= known


def test_the_reference_and_the_schemas_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["schemas", "--check", "--docs", str(ROOT / "docs")]) == cli.DONE, capsys.readouterr().err


def test_the_reference_names_everything_that_is_declared() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    names = [variable(name) for name in Settings.__struct_fields__]
    names += [metric.name for metric in METRICS] + [topic.value for topic in Topic]
    names += [f"plumbline {verb}" for verb in cli.VERBS]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_metric_that_the_code_counts_is_declared_and_none_is_declared_in_vain() -> None:
    declared = {metric.name for metric in METRICS}
    sources = [
        path
        for name in ("app", "streaming", "serving", "training", "audit", "release", "retrain")
        for path in (ROOT / name).rglob("*.py")
    ]
    counted = {name for path in sources for name in re.findall(r'"(plumbline_[a-z_]+)"', path.read_text("utf-8"))}
    assert {name for name in counted if name.endswith(("_total", "_seconds", "_transactions"))} <= declared
    assert declared <= counted


def test_the_architecture_page_names_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = [path.parent.name for path in ROOT.glob("*/__init__.py")]
    assert [name for name in packages if f"`{name}/`" not in text] == []


def test_the_readme_leads_to_every_page() -> None:
    reachable = set()
    for page in (ROOT / "README.md", ROOT / "docs" / "architecture.md"):
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            reachable.add((page.parent / target.partition("#")[0]).resolve())
    pages = set((ROOT / "docs").glob("*.md"))
    assert {page.name for page in pages if page.resolve() not in reachable} == set()


DECISIONS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))


def test_decision_records_are_numbered_without_gaps() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("record", DECISIONS, ids=lambda record: record.name[:4])
def test_a_decision_record_gives_context_decision_and_cost_on_one_page(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE)[:3] == ["Context", "Decision", "Cost"]
    assert len(text.splitlines()) <= 60
