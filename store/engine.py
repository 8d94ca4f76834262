"""The database engine: SQLite in the data folder where nothing else is set, PostgreSQL where it is.

Whatever fails because the database cannot be reached (or a lock is not had in time, or the disk is full) is raised
as StoreUnavailable, and a table or column that is not there as Unready, from any session of these engines: callers need
not know a driver's errors.
"""

import functools
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from plumbline.errors import InvalidSetting, StoreUnavailable, Unready
from plumbline.settings import Settings, variable

BUSY_TIMEOUT_MS = 10_000
DRIVERS = ("sqlite", "postgresql+psycopg")

_SQLITE_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -65536",
    # 32 MiB between checkpoints: a busy ledger writes the same index pages again and again.
    "PRAGMA wal_autocheckpoint = 8192",
)
# Primary result codes that pass by themselves or when a person makes room, none of them a fault of the statement.
_SQLITE_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
    }
)


def url(settings: Settings) -> sa.URL:
    """Where the store is: `database_url` with the password from its file, or SQLite in the data folder.

    Raises InvalidSetting for an address that cannot be read, a driver that is not supported, or a missing file.
    """
    if not settings.database_url:
        return sa.URL.create("sqlite", database=str(settings.data_path / "plumbline.db"))
    name = variable("database_url")
    try:
        address = sa.make_url(settings.database_url)
    except exc.ArgumentError:
        raise InvalidSetting("environment", name, "(masked)", "an address such as sqlite:///FILE") from None
    if address.drivername not in DRIVERS:
        allowed = "an address that begins with sqlite:/// or postgresql+psycopg://"
        raise InvalidSetting("environment", name, address.render_as_string(), allowed)
    if settings.database_password_file:
        address = address.set(password=_password(settings.database_password_file))
    return address


def _password(file: str) -> str:
    try:
        return Path(file).read_text().strip()
    except OSError as error:
        name = variable("database_password_file")
        raise InvalidSetting("environment", name, file, f"a readable file ({error.strerror})") from error


def options(address: sa.URL) -> dict[str, Any]:
    """Arguments of `sqlalchemy.create_engine` for an address, for those who let a framework create the engine."""
    shared: dict[str, Any] = {"json_serializer": dump_json, "json_deserializer": msgspec.json.decode}
    if address.get_backend_name() == "sqlite":
        return shared
    return {**shared, "pool_pre_ping": True, "pool_recycle": 1800, "connect_args": {"connect_timeout": 5}}


def dump_json(value: Any) -> str:
    """JSON text of a value; structs and enums are welcome."""
    return msgspec.json.encode(value).decode()


def open_engine(settings: Settings) -> sa.Engine:
    """An engine for the store, ready for sessions; connects lazily. Makes the data folder where SQLite needs it."""
    return engine_at(url(settings))


def engine_at(address: sa.URL) -> sa.Engine:
    """As `open_engine`, for an address."""
    if address.get_backend_name() == "sqlite" and address.database:
        folder = Path(address.database).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"cannot make the folder {folder}: {error.strerror}") from error
    engine = sa.create_engine(address, **options(address))
    prepare(engine)
    return engine


def prepare(engine: sa.Engine) -> None:
    """Give an engine, before its first connection, SQLite's settings and the translation of its errors."""
    place = engine.url.render_as_string()
    if engine.dialect.name == "sqlite":
        place = engine.url.database or "in memory"
        event.listen(engine, "connect", functools.partial(_set_pragmas, place))

    def translate(context: ExceptionContext) -> None:
        _raise_ours(context.original_exception, place, lost=context.is_disconnect)

    event.listen(engine, "handle_error", translate)


def _set_pragmas(place: str, connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    try:
        for pragma in _SQLITE_PRAGMAS:
            cursor.execute(pragma)
    except sqlite3.Error as error:
        _raise_ours(error, place)
        raise
    finally:
        cursor.close()


def _raise_ours(error: BaseException, place: str, *, lost: bool = False) -> None:
    """Raise what a driver's error means to a caller, where it means anything but a fault of the statement.

    place: the database's file or address, without its password; lost: whether the connection is gone.
    """
    if _sqlite_code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        raise StoreUnavailable(
            f"the database file {place} cannot be opened for writing ({error}): check that its folder is there, "
            "and that this user may write to both"
        ) from error
    if lost or unavailable(error):
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StoreUnavailable(f"the database cannot be used at present: {reason}") from error
    if _lacks_tables(error):
        raise Unready(
            f"the SQL tables in {place} are missing or of another release ({' '.join(str(error).split())}): run "
            "`plumbline migrate`"
        ) from error


def _sqlite_code(error: BaseException) -> int | None:
    """SQLite's primary result code; None of another driver's error."""
    code = getattr(error, "sqlite_errorcode", None) if isinstance(error, sqlite3.Error) else None
    return None if code is None else code & 0xFF


def _lacks_tables(error: BaseException) -> bool:
    """Whether a statement named a table or a column that the database does not have."""
    if isinstance(error, sqlite3.OperationalError):
        return any(each in str(error) for each in ("no such table", "no such column", "has no column named"))
    return getattr(error, "sqlstate", None) in ("42P01", "42703")


def unavailable(error: BaseException) -> bool:
    """Whether a driver's error says that the database cannot be had now, rather than that a statement is wrong."""
    if isinstance(error, sqlite3.Error):
        return _sqlite_code(error) in _SQLITE_UNAVAILABLE
    # psycopg: class 08 connection, 53 resources, 57 intervention, 58 system, 40 serialization; None: never connected.
    state = getattr(error, "sqlstate", "")
    if state is None:
        return type(error).__name__ in ("OperationalError", "ConnectionTimeout")
    return state[:2] in ("08", "53", "57", "58", "40")


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[Session]:
    """A session whose work is committed when the block ends well, and rolled back when it raises."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session
