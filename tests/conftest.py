"""Fixtures of the whole suite: one real Apache Kafka, which all tests and all workers of a run share.

A test that kills, pauses or restarts a broker starts a `LocalBroker` of its own.
"""

import fcntl
import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest


@dataclass(frozen=True)
class SharedKafka:
    """The suite's broker: `bootstrap` is host:port."""

    bootstrap: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test that asks for the broker, so that `-m "not kafka"` leaves all of them out."""
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)


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
