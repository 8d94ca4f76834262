"""The migrations make exactly the declared tables, on both databases, up and down and up again."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.schema import CreateTable

from plumbline.errors import StoreUnavailable, Unready
from plumbline.settings import Settings
from store import guard_tables, model_tables, people, retrain_tables, schema
from store.engine import engine_at, transaction, url
from store.tables import Alert, Base, Decision
from store.users import add_user

COMPARED = {"compare_type": True, "compare_server_default": True}


def test_migrated_tables_are_the_declared_tables(engine: sa.Engine) -> None:
    assert people.User.metadata is Base.metadata
    assert model_tables.ModelVersion.metadata is Base.metadata
    assert guard_tables.Trial.metadata is Base.metadata
    assert retrain_tables.RetrainRun.metadata is Base.metadata
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts=COMPARED), Base.metadata)
    assert differences == []


def test_the_migrations_file_names_tell_the_revisions_that_alembic_finds_in_them() -> None:
    scripts = ScriptDirectory(str(schema.MIGRATIONS))
    assert schema.revisions() == [each.revision for each in scripts.walk_revisions()][::-1]
    assert schema.head() == scripts.get_current_head()


def test_a_filled_database_goes_down_and_up_again(engine: sa.Engine, stored_decision: Callable[..., Decision]) -> None:
    fill(engine, stored_decision)
    assert schema.migrate(engine, "base") == (schema.head(), None)
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]
    assert schema.migrate(engine) == (None, schema.head())
    fill(engine, stored_decision)
    assert schema.migrate(engine) == (schema.head(), schema.head())
    with transaction(engine) as session:
        assert session.query(Decision).count() == 1


def test_other_processes_refuse_missing_older_and_newer_tables(empty_database: sa.URL) -> None:
    engine = engine_at(empty_database)
    with pytest.raises(Unready, match=r"tables are missing.*run `plumbline migrate`"):
        schema.require_current(engine)
    schema.migrate(engine)
    schema.require_current(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'from_tomorrow'")
    with pytest.raises(Unready, match="from_tomorrow, which a newer Plumbline made"):
        schema.require_current(engine)
    with pytest.raises(Unready, match="from_tomorrow, which a newer Plumbline made"):
        schema.migrate(engine)
    engine.dispose()


def test_two_migrations_at_once_end_well(empty_database: sa.URL) -> None:
    ends: list[tuple[str | None, str | None]] = []
    engines = [engine_at(empty_database) for _ in range(4)]
    threads = [threading.Thread(target=lambda e=engine: ends.append(schema.migrate(e))) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends, key=str) == sorted([(None, schema.head())] + [(schema.head(), schema.head())] * 3, key=str)


def test_a_migration_that_fails_leaves_nothing(empty_database: sa.URL) -> None:
    """The failure comes late, when most tables are made: they must go with it."""
    engine = engine_at(empty_database)

    def fail(_connection: sa.Connection, statement: object, *_: object) -> None:
        if isinstance(statement, CreateTable) and statement.element.name == "verdicts":
            raise RuntimeError("power went off")

    sa.event.listen(sa.Engine, "before_execute", fail)
    try:
        with pytest.raises(RuntimeError, match="power went off"):
            schema.migrate(engine)
    finally:
        sa.event.remove(sa.Engine, "before_execute", fail)
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()


def test_a_server_that_is_away_is_retryable_and_named() -> None:
    engine = engine_at(sa.make_url("postgresql+psycopg://plumbline@127.0.0.1:9/plumbline"))
    with pytest.raises(StoreUnavailable, match="cannot be used at present"):
        schema.require_current(engine)


def test_a_file_that_is_no_database_is_not_called_away(tmp_path: Path) -> None:
    (tmp_path / "plumbline.db").write_bytes(b"this is a letter, and no database at all" * 100)
    engine = engine_at(url(Settings(data_dir=str(tmp_path))))
    with pytest.raises(sa.exc.DatabaseError, match="not a database"):
        schema.require_current(engine)


def fill(engine: sa.Engine, stored_decision: Callable[..., Decision]) -> None:
    with transaction(engine) as session:
        session.add(stored_decision("tx_1", 7))
        session.flush()
        session.add(Alert(transaction_id="tx_1", outcome="review", expected_loss_minor=5, opened_at=1))
        add_user(
            session, email="ada@bank.example", name="Ada", roles=["analyst"], password_hash="x", uniquifier="u" * 32
        )
