"""Keys of the decision API: made once, listed without their secret, disabled for good."""

import json
import sqlite3

import pytest

from plumbline.cli import main as cli
from store.keys import hashed, parts_of, text_of


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("PLUMBLINE_DATA_DIR", str(tmp_path))
    assert cli.run(["migrate", "--json"]) == cli.DONE


def run(capsys, *words):
    capsys.readouterr()
    code = cli.run(["keys", *words])
    written = capsys.readouterr()
    return code, written.out, written.err


def test_a_key_is_shown_once_and_its_secret_is_nowhere_in_the_database(capsys, tmp_path):
    code, out, _ = run(capsys, "add", "card-platform", "--scope", "decisions:write", "--by", "ada", "--json")
    made = json.loads(out)
    key_id, secret = parts_of(made["key"])
    assert (code, made["name"], made["key_id"], made["scopes"]) == (
        cli.DONE, "card-platform", key_id, ["decisions:write"]
    )  # fmt: skip
    assert (made["created_by"], made["disabled_at"], made["last_used_at"]) == ("ada", None, None)
    listed = run(capsys, "list", "--json")[1]
    assert secret not in listed
    assert json.loads(listed)["keys"] == [{name: value for name, value in made.items() if name != "key"}]
    with sqlite3.connect(tmp_path / "plumbline.db") as connection:
        assert secret not in "\n".join(connection.iterdump())
        assert connection.execute("SELECT secret_hash FROM api_keys").fetchone() == (hashed(secret),)


def test_the_text_of_a_key_is_all_that_is_printed_for_a_person(capsys):
    _, out, _ = run(capsys, "add", "a", "--scope", "decisions:read", "--scope", "decisions:write")
    key_id, secret = parts_of(out.strip())
    assert out == text_of(key_id, secret) + "\n"
    another = run(capsys, "add", "b", "--scope", "decisions:read")[1]
    assert another != out
    lines = run(capsys, "list")[1].splitlines()
    assert [line.split("\t")[0] for line in lines] == ["a", "b"]
    assert [line.split("\t")[-1] for line in lines] == ["good", "good"]


def test_a_disabled_key_stays_in_the_list_and_its_name_is_taken(capsys):
    run(capsys, "add", "a", "--scope", "decisions:read")
    assert run(capsys, "disable", "a")[1] == "a opens nothing any more.\n"
    first = json.loads(run(capsys, "list", "--json")[1])["keys"][0]["disabled_at"]
    assert first is not None
    assert json.loads(run(capsys, "disable", "a", "--json")[1])["disabled_at"] == first
    code, _, err = run(capsys, "add", "a", "--scope", "decisions:read")
    assert (code, "a name that no key ever had" in err) == (cli.FAILED, True)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["add", "a", "--scope", "everything"], cli.FAILED, "one or more of decisions:write, decisions:read"),
        (["add", "A key", "--scope", "decisions:read"], cli.FAILED, "key: name is 'A key'"),
        (["add", "a"], cli.USAGE, "--scope"),
        (["disable", "nobody"], cli.FAILED, "no API key has the name 'nobody'"),
    ],
)
def test_what_cannot_be_is_said(capsys, words, code, said):
    got, out, err = run(capsys, *words)
    assert (got, out) == (code, "")
    assert said in err


@pytest.mark.parametrize("text", ["", "plb_", "plb_0123456789ab_short", "PLB_0123456789ab_" + "s" * 43,
                                  "plb_0123456789ab_" + "s" * 44, "plb_0123456789ab_" + "s" * 43 + "\n"])  # fmt: skip
def test_what_is_no_key_has_no_parts(text):
    assert parts_of(text) is None
