"""`plumbline retrain` on the command line: what it refuses before it learns anything, and with which exit code."""

import datetime
import json
import os
import re
import shutil

import pytest
from msgspec.structs import replace

from features.declaration import DECLARATION
from features.grammar import encode
from plumbline.cli import main as cli
from plumbline.settings import Settings
from retrain import empty_days
from retrain.lock import Holder, held
from store import models
from store.engine import open_engine, transaction
from store.retrains import newest
from store.schema import migrate
from tests.app.registered import ENGINEER, change, version
from tests.declared_model import declared_models
from tests.training.small import DAY, FIRST, small_archive
from training.files import CARD, DECLARATION_FILE

DAYS = ["--days", "6", "--delay-days", "3", "--test-days", "7", "--no-shadow", "--json"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive") / "archive"
    small_archive(folder)
    return folder


@pytest.fixture
def bank(tmp_path, monkeypatch):
    monkeypatch.setenv("PLUMBLINE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PLUMBLINE_NOTIFY_FILE", str(tmp_path / "notices.jsonl"))
    engine = open_engine(Settings(data_dir=str(tmp_path / "data")))
    migrate(engine)
    yield engine
    engine.dispose()


def run(capsys, archive, *words):
    code = cli.run(["retrain", "--archive", str(archive), *DAYS, *words])
    return code, capsys.readouterr().err


def test_a_day_that_is_missing_is_named_and_told(bank, tmp_path, archive, capsys):
    """The cut-off lies behind the archive's end: the days between have nothing."""
    code, err = run(capsys, archive, "--cut-off", "2019-06-10")
    assert code == cli.FAILED
    assert "neither the archive nor the kept journal has a transaction" in err
    (notice,) = [json.loads(line) for line in (tmp_path / "notices.jsonl").read_text().splitlines()]
    assert (notice["verdict"], notice["step"]) == ("failed", "labels")
    with transaction(bank) as session:
        (row,) = newest(session)
        assert (row.verdict, row.step, row.attempts, row.finished_at) == ("failed", "labels", 1, None)
        assert [each["state"] for each in row.steps][:3] == ["done", "failed", "waiting"]
    assert run(capsys, archive, "--cut-off", "2019-06-10")[0] == cli.FAILED
    with transaction(bank) as session:
        (row,) = newest(session)
        assert row.attempts == 2, "it is the same run, which went on where it failed"
    assert not (tmp_path / "data" / "models").exists()


def test_a_day_without_payments_is_declared_once(bank, tmp_path, archive, capsys):
    words = ("--cut-off", "2019-06-10")
    err = run(capsys, archive, *words)[1]
    (named,) = {*re.findall(r"plumbline retrain --empty-day (\S+)`", err)}
    next_day = str(datetime.date.fromisoformat(named) + datetime.timedelta(days=1))
    assert f"day {named} and" in err
    for declared in (("--empty-day", named), ()):  # the second run has not to be told again
        err = run(capsys, archive, *words, *declared)[1]
        assert f"day {next_day} and" in err
    assert [each.day for each in empty_days.declared(tmp_path / "data" / "retrain")] == [named]
    assert run(capsys, archive, *words, "--empty-day", "25.12.2026")[0] == cli.USAGE


def test_a_run_trains_the_declaration_of_the_champion_unless_told_otherwise(
    bank, tmp_path, tmp_path_factory, archive, capsys
):
    words, changed = ("--cut-off", "2019-06-10"), tmp_path / "declaration.json"
    assert f"trains declaration {DECLARATION.fingerprint}, that of this release" in run(capsys, archive, *words)[1]
    folder = tmp_path / "data" / "models" / "plumbline" / "7"
    shutil.copytree(declared_models(tmp_path_factory) / "1", folder)
    own = replace(DECLARATION, features=DECLARATION.features[:-1])
    changed.write_bytes(encode(own))
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, "version": 7, "fingerprint": own.fingerprint}))
    (folder / DECLARATION_FILE).write_bytes(encode(own))
    with transaction(bank) as session:
        models.add_version(session, version(7, 10**15), ENGINEER)
        models.add_changes(session, [change(7, "", "champion", 0, 10**15)])
    err = run(capsys, archive, *words)[1]
    assert f"trains declaration {own.fingerprint}, that of the champion, version 7" in err
    changed.write_bytes(encode(DECLARATION))
    err = run(capsys, archive, *words, "--declaration", str(changed))[1]
    assert f"trains declaration {DECLARATION.fingerprint}, that of a file" in err
    with transaction(bank) as session:
        fingerprints = [row.arguments["fingerprint"] for row in newest(session)]
    assert {*fingerprints} == {own.fingerprint, DECLARATION.fingerprint}


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--cut-off", "2019-04-20"], cli.FAILED, "too few to train"),
        (["--cut-off", "2018-01-01"], cli.FAILED, "before the cut-off"),
        (["--cut-off", "2199-01-01"], cli.USAGE, "a moment that has passed"),
        (["--cut-off", "soon"], cli.USAGE, "--cut-off"),
        (["--precision", "float8"], cli.USAGE, "bfloat16"),
        (["--days", "0"], cli.USAGE, "--days"),
    ],
    ids=["short", "early", "future", "word", "precision", "days"],
)
def test_what_cannot_be_trained_is_refused(bank, archive, capsys, words, code, told):
    found, err = run(capsys, archive, *words)
    assert (found, told in err) == (code, True), err


def test_the_second_of_two_hears_who_the_first_is(bank, tmp_path, archive, capsys):
    holder = Holder(os.getpid(), "night-host", "2019-05-20", 5, "2019-05-20 02:00")
    with held(tmp_path / "data" / "retrain" / "lock", holder):
        code, err = run(capsys, archive, "--cut-off", "2019-05-20")
    assert code == cli.FAILED
    assert f"run 2019-05-20, process {os.getpid()} on night-host" in err


def test_tables_that_are_missing_and_hooks_that_are_none(tmp_path, archive, capsys, monkeypatch):
    monkeypatch.setenv("PLUMBLINE_DATA_DIR", str(tmp_path / "data"))
    code, err = run(capsys, archive, "--cut-off", "2019-05-20")
    assert (code, "run `plumbline migrate`" in err) == (cli.FAILED, True)
    monkeypatch.setenv("PLUMBLINE_NOTIFY_VERDICTS", "failed,sometimes")
    code, err = run(capsys, archive, "--cut-off", "2019-05-20")
    assert (code, "sometimes" in err) == (cli.USAGE, True)


def test_an_archive_that_was_changed_is_named(bank, tmp_path, capsys):
    folder = tmp_path / "archive"
    small_archive(folder)
    day = sorted((folder / "transactions").iterdir())[10]
    day.write_bytes(day.read_bytes()[:-100])
    code, err = run(capsys, folder, "--cut-off", "2019-05-20")
    assert code == cli.FAILED
    assert day.name in err
    assert "was changed or damaged" in err


def test_the_days_of_the_small_archive():
    assert FIRST == 18_000 * DAY, "2019-04-14, on which the dates above rely"
