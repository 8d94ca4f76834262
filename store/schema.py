"""The schema's version: migrating to the newest one, and refusing to work on any other.

Only `plumbline migrate` changes tables, and only it imports Alembic, which takes a tenth of the console's start. Every
other process asks `require_current` once at its start.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from plumbline.errors import Unready
from store.engine import options, prepare

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION = sa.table("alembic_version", sa.column("version_num", sa.String()))
LOCK_KEY = 0x706C756D62  # "plumb": PostgreSQL's advisory lock while one process migrates


def revisions() -> list[str]:
    """This version's revisions, oldest first: the numbers with which the migrations' file names begin."""
    return sorted(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def head() -> str:
    """The revision that this version's tables have."""
    if not (found := revisions()):
        raise Unready(f"{MIGRATIONS} holds no migrations: install Plumbline again")
    return found[-1]


def current(engine: sa.Engine) -> str | None:
    """The revision that the database's tables have; None of an empty database. Raises StoreUnavailable."""
    with engine.connect() as connection:
        return _current(connection)


def require_current(engine: sa.Engine) -> None:
    """Raises Unready, with what to do, unless the database's tables are exactly this version's."""
    found, needed = current(engine), head()
    if found == needed:
        return
    if found is not None and found not in revisions():
        raise Unready(f"the SQL tables are of revision {found}, which a newer Plumbline made: run that version")
    have = "are missing" if found is None else f"are of revision {found}"
    raise Unready(f"the SQL tables {have}, and this version needs {needed}: run `plumbline migrate`")


def migrate(engine: sa.Engine, revision: str = "head") -> tuple[str | None, str | None]:
    """Bring the tables to a revision, up or down, in one transaction; the revisions before and after.

    Two at once wait for each other. Raises StoreUnavailable; Unready when a newer Plumbline made the tables.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with _migrating(engine) as connection:
        before, known = _current(connection), revisions()
        if before is not None and before not in known:
            raise Unready(f"the SQL tables are of revision {before}, which a newer Plumbline made: run that version")
        config.attributes["connection"] = connection
        if before is None or revision == "head" or revision in known[known.index(before) + 1 :]:
            command.upgrade(config, revision)
        else:
            command.downgrade(config, revision)
        return before, _current(connection)


def _current(connection: sa.Connection) -> str | None:
    """What Alembic's own table says; a database without it is empty."""
    if not sa.inspect(connection).has_table(VERSION.name):
        return None
    found: str | None = connection.scalar(sa.select(VERSION.c.version_num))
    return found


@contextmanager
def _migrating(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection inside one transaction that holds off every other migration, committed when the block ends well."""
    sqlite = engine.dialect.name == "sqlite"
    own = sa.create_engine(engine.url, poolclass=NullPool, **_without_pool(options(engine.url)))
    prepare(own)
    if sqlite:
        event.listen(own, "connect", _explicit_transactions)
        event.listen(own, "begin", _begin_immediately)
    try:
        with own.begin() as connection:
            if not sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK_KEY)))
            yield connection
            if sqlite:
                _check_references(connection)
    finally:
        own.dispose()


def _without_pool(arguments: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in arguments.items() if not name.startswith("pool_")}


def _explicit_transactions(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # The driver's own transactions leave DDL outside. Copying a table must not cascade into those that refer to it.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = OFF")
    cursor.close()


def _begin_immediately(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _check_references(connection: sa.Connection) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if broken:
        raise Unready(f"the database holds rows that refer to nothing ({broken[0]}): restore a backup, then migrate")
