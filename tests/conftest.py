"""Fixtures of the whole suite: one real Apache Kafka, which all tests and all workers of a run share; and databases.

A test that kills, pauses or restarts a broker starts a `LocalBroker` of its own. PostgreSQL is one server a worker.
"""

import fcntl
import json
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
import sqlalchemy as sa


@dataclass(frozen=True)
class SharedKafka:
    """The suite's broker: `bootstrap` is host:port."""

    bootstrap: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test that asks for the broker or PostgreSQL, so that `-m "not kafka"` leaves all of them out."""
    for item in items:
        for fixture in {"kafka", "postgres"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(fixture)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedKafka]:
    """A running Apache Kafka; start-up is paid once a run, whatever the number of workers."""
    from streaming.broker.java import find_java

    if find_java() is None:
        pytest.skip("no Java 17 or newer, which Apache Kafka needs")
    base = tmp_path_factory.getbasetemp()
    # Under pytest-xdist each worker has a folder of its own in the run's folder.
    run_dir = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with _shared_broker(run_dir) as bootstrap:
        yield SharedKafka(bootstrap)


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that no other test uses, for topics and groups on the shared broker."""
    return f"t{uuid.uuid4().hex[:12]}."


@contextmanager
def _shared_broker(run_dir: Path) -> Iterator[str]:
    """The address of the run's broker. Whoever comes first starts it, and stops it when nobody else uses it.

    Users hold a shared lock, which the kernel lets go even when a worker crashes; the starter waits for all of them.
    """
    from streaming.broker.local import LocalBroker

    card = run_dir / "kafka.json"
    with (run_dir / "kafka.mutex").open("w") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        joined = _join(card)
        if joined is None:
            users_file = run_dir / f"kafka-{os.getpid()}.users"
            folder = tempfile.TemporaryDirectory(prefix="plumbline-kafka-")
            broker = LocalBroker(folder.name).start()
            users = users_file.open("w")
            fcntl.flock(users, fcntl.LOCK_SH)
            card.write_text(json.dumps({"bootstrap": broker.bootstrap, "users": str(users_file)}))
    if joined is not None:
        bootstrap, users = joined
        with users:
            yield bootstrap
        return
    try:
        yield broker.bootstrap
    finally:
        fcntl.flock(users, fcntl.LOCK_UN)
        fcntl.flock(users, fcntl.LOCK_EX)
        broker.stop()
        folder.cleanup()
        users.close()


def _join(card: Path) -> tuple[str, IO[str]] | None:
    """The running broker's address and our share in it; None when there is none, or its starter is stopping it."""
    if not card.exists():
        return None
    written = json.loads(card.read_text())
    users = open(written["users"], "w")  # noqa: SIM115 - open for as long as we use the broker
    try:
        fcntl.flock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        users.close()
        return None
    if not _listens(written["bootstrap"]):
        users.close()
        return None
    return written["bootstrap"], users


def _listens(bootstrap: str) -> bool:
    from streaming.broker.local import answers

    return answers(int(bootstrap.rpartition(":")[2]))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], sa.URL]]:
    """A running PostgreSQL, as a function that makes one more empty database; nobody else can connect to it."""
    binaries = _postgres_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server binaries (initdb, pg_ctl)")
    with tempfile.TemporaryDirectory(prefix="plumbline-pg-") as folder, _postgres_server(binaries, folder) as server:
        admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)

        def new_database() -> sa.URL:
            name = f"t{uuid.uuid4().hex[:12]}"
            with admin.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
            return server.set(database=name)

        yield new_database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> sa.URL:
    """The address of a database without tables: once SQLite, once PostgreSQL."""
    if request.param == "sqlite":
        return sa.URL.create("sqlite", database=str(tmp_path / "plumbline.db"))
    new_database: Callable[[], sa.URL] = request.getfixturevalue("postgres")
    return new_database()


@pytest.fixture
def engine(empty_database: sa.URL) -> Iterator[sa.Engine]:
    """A store whose tables are up to date and empty: once SQLite, once PostgreSQL."""
    from store.engine import engine_at
    from store.schema import migrate

    opened = engine_at(empty_database)
    migrate(opened)
    yield opened
    opened.dispose()


def _postgres_binaries() -> Path | None:
    found = shutil.which("pg_ctl")
    newest_first = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: path.parts, reverse=True)
    places = [Path(found), *newest_first] if found else newest_first
    return next((place.parent for place in places if (place.parent / "initdb").exists()), None)


@contextmanager
def _postgres_server(binaries: Path, folder: str) -> Iterator[sa.URL]:
    """A server on a socket in the folder, run by somebody other than root, since it refuses root; durable it is not."""
    owner = None
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres" if _known("postgres") else "nobody")
        os.chown(folder, owner.pw_uid, owner.pw_gid)

    def run(program: str, *arguments: str) -> None:
        log = Path(folder, "log.txt")
        account = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if owner else {}
        with log.open("ab") as output:
            subprocess.run(  # the server inherits the log, and no pipe that would keep us waiting
                [binaries / program, *arguments], check=True, cwd=folder, stdout=output, stderr=output, **account
            )

    run("initdb", "-D", "data", "-U", "plumbline", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
    settings = f"-k {folder} -c listen_addresses= -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
    run("pg_ctl", "-D", "data", "-w", "-s", "-o", settings, "start")
    try:
        yield sa.URL.create("postgresql+psycopg", "plumbline", database="postgres", query={"host": folder})
    finally:
        run("pg_ctl", "-D", "data", "-w", "-s", "-m", "immediate", "stop")


def _known(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
