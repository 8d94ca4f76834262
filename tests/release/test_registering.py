"""A version comes into the registry by the bytes of its files, and a changed byte is found and named."""

import json
import subprocess

import pytest

from plumbline.cli import main as cli
from plumbline.cli import train
from plumbline.errors import Refused
from plumbline.settings import Settings
from release.registering import register, verify_registered
from store.engine import transaction
from store.models import changes, model_version, model_versions
from training.provenance import code_commit, lock_sha256


def run(capsys, *words):
    code = cli.run(["models", *words])
    written = capsys.readouterr()
    return code, written.out, written.err


def test_a_version_is_registered_once_listed_and_shown(installed, another, capsys):
    another(
        2, name="plumbline", seed=7, code_commit="c" * 40, lock_sha256="d" * 64, made_by="ada",
        train="2026-01-01..2026-02-01", metrics={"ap": 0.5},
        slices={"channel=pos": {"rows": 10.0, "frauds": 1.0, "ap": 0.25}},
        rows={"train": 9},
    )  # fmt: skip
    for _ in range(2):
        code, out, _ = run(capsys, "register", "--json")
        assert (code, json.loads(out)["version"], json.loads(out)["stage"]) == (cli.DONE, 2, "candidate")
    assert run(capsys, "register", "1", "--by", "bob")[0] == cli.DONE
    listed = json.loads(run(capsys, "list", "--json")[1])
    assert [(each["version"], each["made_by"]) for each in listed["versions"]] == [(2, "ada"), (1, "bob")]
    assert (listed["wish"], listed["in_force"], listed["difference"]) == (None, None, "")
    shown = json.loads(run(capsys, "show", "2", "--json")[1])
    assert (shown["seed"], shown["code_commit"], shown["metrics"]["ap"]) == (7, "c" * 40, 0.5)
    assert [(each["from_stage"], each["to_stage"], each["kind"]) for each in shown["changes"]] == [
        ("", "candidate", "register")
    ]
    said = run(capsys, "show", "2")[1]
    assert "channel=pos" in said
    assert "ap 0.2500" in said
    code, _, err = run(capsys, "show", "9")
    assert code == cli.FAILED
    assert "no version 9" in err


@pytest.mark.parametrize("place", ["saved_model.pb", "assets.extra/declaration.json"])
def test_a_changed_byte_is_refused_and_the_file_named(installed, base, capsys, place):
    with transaction(installed) as session:
        register(session, base, 1, by="ada", now_us=1)
    file = base / "1" / place
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    with transaction(installed) as session, pytest.raises(Refused, match=f"{place} was changed"):
        verify_registered(base, model_version(session, 1))
    with transaction(installed) as session:
        for each in changes(session):
            session.delete(each)
        session.delete(model_version(session, 1))
    code, _, err = run(capsys, "register", "1")
    assert code == cli.FAILED
    assert f"{place} was changed or is gone" in err
    with transaction(installed) as session:
        assert model_versions(session) == []


def test_a_card_that_was_changed_with_its_files_is_noticed_all_the_same(installed, base):
    with transaction(installed) as session:
        register(session, base, 1, by="ada", now_us=1)
    card = base / "1" / "assets.extra" / "plumbline.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "metrics": {"ap": 0.99}}))
    with transaction(installed) as session, pytest.raises(Refused, match="not the card that was registered"):
        verify_registered(base, model_version(session, 1))
    (base / "1" / "extra.bin").write_bytes(b"1")
    with transaction(installed) as session, pytest.raises(Refused, match=r"extra\.bin was added"):
        verify_registered(base, model_version(session, 1))


def test_what_is_no_export_of_ours_is_refused_in_words(installed, base, another, capsys):
    for change, says in (
        ({"files": None}, "lists no files"),
        ({"version": 5}, "that of version 5"),
        ({}, "cannot be read"),
    ):
        folder = another(3, **change)
        if not change:
            (folder / "assets.extra" / "plumbline.json").write_text("{")
        code, _, err = run(capsys, "register", "3")
        assert code == cli.FAILED
        assert says in err
        for each in sorted(folder.rglob("*"), reverse=True):
            each.rmdir() if each.is_dir() else each.unlink()
        folder.rmdir()
    assert "is not there" in run(capsys, "register", "3")[2]
    with transaction(installed) as session:
        register(session, base, 1, by="ada", now_us=1)
    (base / "1" / "more").write_bytes(b"")
    card = base / "1" / "assets.extra" / "plumbline.json"
    found = json.loads(card.read_text())
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    card.write_text(json.dumps({**found, "files": {**found["files"], "more": empty}}))
    assert "registered with other files" in run(capsys, "register", "1")[2]


def test_a_training_registers_what_it_made_and_never_fails_for_it(installed, base, another, tmp_path, capsys):
    settings = Settings(data_dir=str(base.parents[1]))
    assert train._register(settings, base / "1", "ada")
    (another(2) / "saved_model.pb").write_bytes(b"other")
    assert not train._register(settings, base / "2", "ada")
    assert "version 2 is not in the registry" in capsys.readouterr().err
    with transaction(installed) as session:
        assert [each.version for each in model_versions(session)] == [1]
    elsewhere = Settings(data_dir=str(tmp_path / "elsewhere"))
    assert not train._register(elsewhere, elsewhere.models_path / "1", "ada"), "there is no store yet"
    assert capsys.readouterr().err == ""


def test_the_commit_says_when_files_differ_from_it(tmp_path):
    def git(*words):
        identity = ("-c", "user.name=t", "-c", "user.email=t@t")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    assert code_commit("", tmp_path) == ""
    (tmp_path / "file").write_text("1")
    git("init")
    git("add", "file")
    git("commit", "-m", "first")
    clean = code_commit("", tmp_path)
    assert len(clean) == 40
    (tmp_path / "file").write_text("2")
    assert code_commit("", tmp_path) == clean + "-dirty"
    assert code_commit("given", tmp_path) == "given"
    installed = lock_sha256(tmp_path)
    (tmp_path / "requirements.lock").write_text("")
    assert lock_sha256(tmp_path) != installed
