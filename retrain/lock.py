"""Two nights never run at once: the kernel's lock on a file, in which its holder says who it is.

The kernel lets go of it when the process ends, however it ends. Where SQL is PostgreSQL, the same is held there too, so
that two machines whose folders are not the same disk do not run at once either.

Both can be lost while a run goes on: somebody removes the file, or the database ends the session. So each gives its
holder a check, which a run makes before every step, and which raises where another run may have begun.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from io import BufferedRandom
from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from plumbline.errors import Refused, StoreUnavailable

LOCK_KEY: Final = 0x6E69676874
"""PostgreSQL's advisory lock, "night"."""

Check = Callable[[], None]
"""Raises where the lock is not held any more."""


class Holder(msgspec.Struct, frozen=True):
    """Who holds the lock: process and host, for which run, and since when (microseconds since 1970 UTC)."""

    pid: int
    host: str
    run: str
    since_us: int
    since: str
    """The same for people."""


@contextlib.contextmanager
def held(file: Path, holder: Holder) -> Iterator[Check]:
    """The lock, for as long as the block runs; raises Refused, with who holds it, while another one does.

    Its check raises Refused where the file was removed or replaced.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with _locked(file) as lock:

        def check() -> None:
            if not _is_at(lock, file):
                raise Refused(
                    f"the lock file {file} was removed or replaced while this run held it, so another one may be at "
                    "work: look for it, then start the same command again"
                )

        lock.truncate(0)
        lock.write(msgspec.json.encode(holder))
        lock.flush()
        yield check
        lock.truncate(0)


def _locked(file: Path) -> BufferedRandom:
    """The file, open and locked, and still the one of that name."""
    while True:
        lock = file.open("a+b")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise Refused(f"another night is at work ({_told(file)}): let it finish, or stop that process") from None
        if _is_at(lock, file):
            return lock
        lock.close()  # removed between the two calls


def _is_at(lock: BufferedRandom, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock.fileno()), file.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def held_in_sql(engine: sa.Engine) -> Iterator[Check]:
    """PostgreSQL's lock for the block; nothing on SQLite, whose file lies beside ours. Raises Refused.

    Its check raises StoreUnavailable where the session that held the lock has ended.
    """
    if engine.dialect.name != "postgresql":
        yield lambda: None
        return
    with engine.connect() as connection:
        connection.detach()  # from the pool: the lock is the session's, and goes when this connection is closed
        if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(LOCK_KEY))):
            raise Refused("another night is at work on this database, on another machine: let it finish")
        connection.commit()  # so that no transaction stays open for hours
        yield lambda: _require_held(connection)


def _require_held(connection: sa.Connection) -> None:
    """Raises StoreUnavailable unless this very session holds the lock: a new one of the same name would not."""
    mine = sa.text(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid() "
        "AND classid = :high AND objid = :low"
    )
    try:
        held = connection.scalar(mine, {"high": LOCK_KEY >> 32, "low": LOCK_KEY & 0xFFFFFFFF})
        connection.commit()
    except (SQLAlchemyError, StoreUnavailable):
        held = 0
    if not held:
        raise StoreUnavailable(
            "the database session that held the run's lock has ended, so another run may have begun on another "
            "machine: start the same command again, which takes the lock first"
        )


def _told(file: Path) -> str:
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Holder)
    except (OSError, msgspec.MsgspecError):
        return "which does not say who it is yet"
    return f"run {found.run}, process {found.pid} on {found.host}, since {found.since} UTC"
