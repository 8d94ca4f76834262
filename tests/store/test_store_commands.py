"""`plumbline migrate`, `plumbline users` and `plumbline ledger` as a person types them."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

import store.migrations
from plumbline.cli import main as cli
from plumbline.journal import Answered
from plumbline.settings import Settings
from store.engine import url
from tests.journal_writer import JournalWriter, entries

NEWEST = max(each.name[:4] for each in (Path(store.migrations.__path__[0]) / "versions").glob("[0-9]*.py"))

PASSWORD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_DATA_DIR", str(tmp_path / "new" / "folder"))
    monkeypatch.setenv("PLUMBLINE_PASSWORD_SALT", "a salt of 16 characters or more")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, standard output, and the last line of standard error."""
    code = cli.run(words)
    written = capsys.readouterr()
    return code, written.out, (written.err.strip().splitlines() or [""])[-1]


def test_migrate_makes_the_database_and_says_what_it_did(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    first, second = (json.loads(run(capsys, "migrate", "--json")[1]) for _ in range(2))
    assert (first["before"], first["after"], first["changed"]) == (None, NEWEST, True)
    assert (second["before"], second["after"], second["changed"]) == (NEWEST, NEWEST, False)
    assert (tmp_path / "new" / "folder" / "plumbline.db").exists()


@pytest.mark.parametrize("words", [("ledger", "--once"), ("users", "list")])
def test_other_commands_ask_for_migrate_first(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (cli.FAILED, "")
    assert err == f"plumbline: the SQL tables are missing, and this version needs {NEWEST}: run `plumbline migrate`"


def test_a_folder_that_cannot_be_made_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PLUMBLINE_DATA_DIR", str(tmp_path / "file" / "data"))
    code, _, err = run(capsys, "migrate")
    assert code == cli.FAILED
    assert "cannot make the folder" in err


def test_a_database_of_another_kind_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLUMBLINE_DATABASE_URL", "mysql://root:hunter2@db/plumbline")
    code, _, err = run(capsys, "migrate")
    assert code == cli.USAGE
    assert "sqlite:/// or postgresql+psycopg://" in err
    assert "hunter2" not in err


def test_the_password_file_goes_into_the_address(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("p@ss/word\n")
    settings = Settings(
        database_url="postgresql+psycopg://plumbline@db/plumbline", database_password_file=str(tmp_path / "secret")
    )
    assert url(settings).password == "p@ss/word"


def test_people_are_added_listed_shut_out_and_let_in(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(capsys, "migrate")
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))
    code, out, _ = run(capsys, "users", "add", "Ada@bank.example", "--role", "analyst", "--name", "Ada", "--json")
    added = {"email": "ada@bank.example", "name": "Ada", "roles": ["analyst"]}
    assert (code, json.loads(out)) == (cli.DONE, added)
    monkeypatch.setattr("sys.stdin", io.StringIO("another long password\n"))
    assert run(capsys, "users", "set-password", "ada@bank.example")[0] == cli.DONE
    for word, active in (("disable", False), ("enable", True)):
        assert run(capsys, "users", word, "ada@bank.example")[0] == cli.DONE
        listed = json.loads(run(capsys, "users", "list", "--json")[1])
        assert listed == {"users": [{**added, "active": active}]}


def test_a_password_that_is_too_short_or_not_given_adds_nobody(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(capsys, "migrate")
    for given in ("hunter2\n", ""):
        monkeypatch.setattr("sys.stdin", io.StringIO(given))
        code, _, err = run(capsys, "users", "add", "ada@bank.example", "--role", "analyst")
        assert code == cli.FAILED
        assert "expected 12 to 256 characters" in err
        assert "hunter2" not in err
    monkeypatch.delenv("PLUMBLINE_PASSWORD_SALT")
    code, _, err = run(capsys, "users", "add", "ada@bank.example", "--role", "analyst")
    assert code == cli.FAILED
    assert "PLUMBLINE_PASSWORD_SALT is not set" in err
    assert json.loads(run(capsys, "users", "list", "--json")[1]) == {"users": []}


def test_ledger_once_prints_what_it_stored(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kafka: Any, topic_prefix: str
) -> None:
    monkeypatch.setenv("PLUMBLINE_KAFKA_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("PLUMBLINE_TOPIC_PREFIX", topic_prefix)
    run(capsys, "migrate")
    writer = JournalWriter(kafka.bootstrap, topic_prefix)
    written = list(entries(100, 1))
    writer.write(written)
    writer.close()
    code, out, _ = run(capsys, "ledger", "--once", "--json")
    stored = json.loads(out)
    assert code == cli.DONE
    kinds = ("decisions", "labels", "late_counts", "conflicts", "rejected", "policies")
    assert sum(stored[kind] for kind in kinds) == sum(not isinstance(each, Answered) for each in written)
    assert stored["shadow_scores"] == sum(len(each.values) for each in written if isinstance(each, Answered)) > 0
    assert stored["sequence"] >= 99
