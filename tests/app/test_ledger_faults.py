"""The ledger under faults: killed, cut off from the broker or the database; nothing is lost, nothing is doubled."""

import contextlib
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from app.ledger import Ledger, run
from observe.metrics import Metrics
from plumbline.errors import AlertClosed
from plumbline.label import parse
from store import engine as store_engine
from store.engine import transaction
from store.labels import record_verdict, waiting_verdicts
from store.schema import migrate
from store.tables import Alert, Decision, LedgerPosition
from streaming.broker.local import LocalBroker
from tests.journal_writer import NOW, JournalWriter, contents, entries, expected, read_topic

KILLS = 4
DEADLINE_SECONDS = 120.0
COMMAND = (sys.executable, "-m", "plumbline.cli.main", "ledger")


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for something that another process or thread brings about."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < end, f"{what}: not within {DEADLINE_SECONDS} s"
        time.sleep(0.02)


def stored_decisions(engine: sa.Engine) -> int:
    with transaction(engine) as session:
        return session.scalar(sa.select(sa.func.count()).select_from(Decision)) or 0


def position(engine: sa.Engine) -> int | None:
    with engine.connect() as connection:
        return connection.scalar(sa.select(LedgerPosition.next_offset))


@contextlib.contextmanager
def running(ledger: Ledger) -> Iterator[None]:
    """The ledger in a thread of its own, stopped at the end; what it raises is raised here."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            run(ledger)
        except BaseException as error:  # noqa: BLE001 - handed over below
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ledger.stop.set()
        thread.join(DEADLINE_SECONDS)
    assert not thread.is_alive()
    if raised:
        raise raised[0]


def ledger_on(engine: sa.Engine, bootstrap: str, prefix: str = "") -> Ledger:
    return Ledger(
        engine=engine,
        bootstrap=bootstrap,
        topic_prefix=prefix,
        stop=threading.Event(),
        metrics=Metrics(),
        now=lambda: time.time_ns() // 1000,
    )


def judge_open_alerts(engine: sa.Engine, most: int) -> None:
    """Verdicts on some open alerts, as a console gives them; the ledger beside it may be first with one."""
    with transaction(engine) as session:
        ids = session.scalars(sa.select(Alert.id).where(Alert.status == "open").limit(most)).all()
    for alert_id in ids:
        with contextlib.suppress(AlertClosed), transaction(engine) as session:
            record_verdict(
                session, alert_id, verdict="fraud", note="", by="console", now_us=NOW, label_id=f"verdict_{alert_id}"
            )


@pytest.mark.slow
def test_killed_at_random_while_entries_flow_sql_equals_the_journal(
    engine: sa.Engine,
    kafka: Any,
    topic_prefix: str,
) -> None:
    """SIGKILL, real processes, a console that gives verdicts meanwhile, and entries that keep coming."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    writer = JournalWriter(kafka.bootstrap, topic_prefix)
    enough = threading.Event()

    def flow() -> None:
        for stretch in itertools.count(seed):
            writer.write(list(entries(240, stretch)), size=60)
            if enough.wait(0.1):
                return

    flowing = threading.Thread(target=flow)
    flowing.start()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE_")},
        "PLUMBLINE_DATABASE_URL": engine.url.render_as_string(hide_password=False),
        "PLUMBLINE_KAFKA_BOOTSTRAP": kafka.bootstrap,
        "PLUMBLINE_TOPIC_PREFIX": topic_prefix,
    }
    for _ in range(KILLS):
        before = stored_decisions(engine)
        process = subprocess.Popen(COMMAND, env=environment, stderr=subprocess.PIPE)
        until(lambda seen=before: stored_decisions(engine) > seen, "the ledger stores")
        judge_open_alerts(engine, 15)
        time.sleep(rng.random() * 0.4)  # the moment of the kill is what is random here
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert flowing.is_alive()
    enough.set()
    flowing.join(DEADLINE_SECONDS)
    process = subprocess.Popen([*COMMAND, "--json"], env=environment, stdout=subprocess.PIPE)
    # what it alone can have stored says that it runs, however much those before it had done
    writer.write(list(entries(60, seed - 1)))
    writer.close()
    records = read_topic(kafka.bootstrap, writer.topic)
    wanted = expected(records)
    until(lambda: position(engine) == records[-1].offset + 1, "the rest of the journal")
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate()
    assert process.returncode == 0
    assert json.loads(printed)["sequence"] == records[-1].offset

    assert without_verdicts(contents(engine)) == without_verdicts(wanted)
    with transaction(engine) as session:
        assert waiting_verdicts(session) == []
        given = {row.label_id for row in session.execute(sa.text("SELECT label_id FROM verdicts"))}
    published = [parse(record.value, NOW) for record in read_topic(kafka.bootstrap, f"{topic_prefix}labels")]
    assert {label.label_id for label in published} == given
    assert len({(label.label_id, label.transaction_id, label.known_at) for label in published}) == len(given) > 0


def without_verdicts(tables: dict[str, list[dict[str, object]]]) -> dict[str, object]:
    """All that the ledger stored, but who closed an alert: the console of this test closes some as well."""
    alerts = [
        {key: row[key] for key in ("transaction_id", "outcome", "expected_loss_minor", "opened_at")}
        for row in tables["alerts"]
    ]
    return {**tables, "alerts": sorted(alerts, key=lambda row: str(row["transaction_id"]))}


@pytest.mark.kafka
@pytest.mark.slow
def test_a_broker_that_is_restarted_is_found_again(tmp_path: Path) -> None:
    engine = store_engine.engine_at(sa.URL.create("sqlite", database=str(tmp_path / "plumbline.db")))
    migrate(engine)
    with LocalBroker(tmp_path / "kafka") as broker:
        writer = JournalWriter(broker.bootstrap, "")
        ledger = ledger_on(engine, broker.bootstrap)
        with running(ledger), capture_logs() as logs:
            writer.write(list(entries(300, 1)))
            until(lambda: stored_decisions(engine) > 200, "the first entries")
            first = stored_decisions(engine)
            writer.close()
            broker.stop()
            until(lambda: any(line["event"] == "the ledger waits" for line in logs), "a log line that says so")
            broker.start()
            writer = JournalWriter(broker.bootstrap, "")
            writer.write(list(entries(300, 2)))
            until(lambda: stored_decisions(engine) > first + 200, "the entries after the restart")
            writer.close()
        run(ledger_on(engine, broker.bootstrap), once=True)
        assert contents(engine) == expected(read_topic(broker.bootstrap, "decisions"))
    engine.dispose()


def test_a_server_that_drops_connections_loses_and_doubles_nothing(
    postgres: Callable[[], sa.URL],
    kafka: Any,
    topic_prefix: str,
) -> None:
    """Some connections die within a batch, some while the commit is on its way: position and rows stay together."""
    address = postgres()
    engine = store_engine.engine_at(address)
    migrate(engine)
    others = sa.create_engine(address, isolation_level="AUTOCOMMIT")
    writer = JournalWriter(kafka.bootstrap, topic_prefix)
    kill = sa.text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = :name AND state <> 'idle'"
    )
    killed = 0
    with running(ledger_on(engine, kafka.bootstrap, topic_prefix)), others.connect() as connection:
        flowing = threading.Thread(target=writer.write, args=(list(entries(6000, 3)),))
        flowing.start()
        while flowing.is_alive():
            killed += connection.scalar(kill, {"name": address.database}) or 0
            time.sleep(0.005)
        flowing.join()
    run(ledger_on(engine, kafka.bootstrap, topic_prefix), once=True)
    writer.close()
    assert killed > 0
    assert contents(engine) == expected(read_topic(kafka.bootstrap, writer.topic))
    others.dispose()
    engine.dispose()


def test_a_file_that_somebody_else_holds_is_waited_for(
    tmp_path: Path,
    kafka: Any,
    topic_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A backup tool holds SQLite's write lock longer than the ledger waits for it."""
    monkeypatch.setattr(store_engine, "_SQLITE_PRAGMAS", ("PRAGMA journal_mode = WAL", "PRAGMA busy_timeout = 50"))
    path = tmp_path / "plumbline.db"
    engine = store_engine.engine_at(sa.URL.create("sqlite", database=str(path)))
    migrate(engine)
    writer = JournalWriter(kafka.bootstrap, topic_prefix)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with running(ledger_on(engine, kafka.bootstrap, topic_prefix)), capture_logs() as logs:
            writer.write(list(entries(200, 4)))
            until(lambda: any("locked" in str(line.get("reason")) for line in logs), "a log line that says so")
            assert stored_decisions(engine) == 0
            holder.execute("ROLLBACK")
            until(lambda: stored_decisions(engine) > 0, "the entries, once the lock is free")
    run(ledger_on(engine, kafka.bootstrap, topic_prefix), once=True)
    writer.close()
    assert contents(engine) == expected(read_topic(kafka.bootstrap, writer.topic))
    engine.dispose()
