"""Two nights never run at once: the kernel's lock on a file, in which its holder says who it is.

The kernel lets go of it when the process ends, however it ends. Where SQL is PostgreSQL, the same is held there too, so
that two machines whose folders are not the same disk do not run at once either.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy as sa

from plumbline.errors import Refused

LOCK_KEY: Final = 0x6E69676874
"""PostgreSQL's advisory lock, "night"."""


class Holder(msgspec.Struct, frozen=True):
    """Who holds the lock: process and host, for which run, and since when (microseconds since 1970 UTC)."""

    pid: int
    host: str
    run: str
    since_us: int
    since: str
    """The same for people."""


@contextlib.contextmanager
def held(file: Path, holder: Holder) -> Iterator[None]:
    """The lock, for as long as the block runs; raises Refused, with who holds it, while another one does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"another night is at work ({_told(file)}): let it finish, or stop that process") from None
        lock.truncate(0)
        lock.write(msgspec.json.encode(holder))
        lock.flush()
        yield
        lock.truncate(0)


@contextlib.contextmanager
def held_in_sql(engine: sa.Engine) -> Iterator[None]:
    """PostgreSQL's lock for the block; nothing on SQLite, whose file lies beside ours. Raises Refused."""
    if engine.dialect.name != "postgresql":
        yield
        return
    with engine.connect() as connection:
        connection.detach()  # from the pool: the lock is the session's, and goes when this connection is closed
        if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(LOCK_KEY))):
            raise Refused("another night is at work on this database, on another machine: let it finish")
        connection.commit()  # so that no transaction stays open for hours
        yield


def _told(file: Path) -> str:
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Holder)
    except (OSError, msgspec.MsgspecError):
        return "which does not say who it is yet"
    return f"run {found.run}, process {found.pid} on {found.host}, since {found.since} UTC"
