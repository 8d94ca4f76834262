"""What the database's errors say to a person: which file, and what to do."""

import pytest

from plumbline.cli import main as cli
from plumbline.errors import StoreUnavailable, Unready
from plumbline.settings import Settings
from store.audits import newest_audit, record_audit
from store.engine import engine_at, open_engine, transaction


def record(session):
    record_audit(
        session, started_at=1, finished_at=2, first_sequence=0, last_sequence=9, compared=1, different=0, detail=[]
    )


@pytest.mark.parametrize("act", [newest_audit, record])
def test_tables_that_are_not_there_are_to_be_migrated(empty_database, act):
    engine = engine_at(empty_database)
    with pytest.raises(Unready, match="run `plumbline migrate`"), transaction(engine) as session:
        act(session)
    engine.dispose()


def test_a_table_of_another_release_is_to_be_migrated(engine):
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE audits DROP COLUMN journal")
    with pytest.raises(Unready, match="run `plumbline migrate`"), transaction(engine) as session:
        record(session)


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    place = tmp_path / "plumbline.db"
    place.mkdir()
    engine = open_engine(Settings(data_dir=str(tmp_path)))
    with pytest.raises(StoreUnavailable, match=f"{place} cannot be opened for writing.*may write"):
        engine.connect()
    engine.dispose()


@pytest.mark.parametrize("verb", [["audit"], ["users", "list"], ["keys", "list"], ["conservation"], ["models", "list"]])
def test_every_verb_says_to_migrate_first(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PLUMBLINE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PLUMBLINE_KAFKA_BOOTSTRAP", "127.0.0.1:9")
    assert cli.run(verb) == cli.FAILED
    assert "run `plumbline migrate`" in capsys.readouterr().err
