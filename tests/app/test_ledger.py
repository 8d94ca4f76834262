"""The ledger against a real broker and both databases: SQL is the journal, whatever is run, repeated or broken."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.journal import starting_offset
from app.ledger import Ledger, Stored, run
from app.outbox import Outbox
from observe.metrics import Metrics
from plumbline.decision import Decision, alert_of
from plumbline.errors import BrokerUnavailable, JournalRefused, LedgerMoved, Unready
from plumbline.journal import LabelApplied
from plumbline.label import parse
from plumbline.settings import Settings
from store import schema
from store.audits import record_audit
from store.drifts import record_drift
from store.engine import open_engine, transaction
from store.labels import record_verdict, waiting_verdicts
from store.ledger import move_position, next_offset
from store.tables import Alert, DriftFigure, DriftRun, LedgerPosition
from store.tables import Decision as StoredDecision
from tests.journal_writer import NOW, JournalWriter, contents, entries, expected, read_topic


@pytest.fixture
def writer(kafka: Any, topic_prefix: str) -> Iterator[JournalWriter]:
    made = JournalWriter(kafka.bootstrap, topic_prefix)
    yield made
    made.close()


@pytest.fixture
def ledger(engine: sa.Engine, kafka: Any, topic_prefix: str) -> Ledger:
    return ledger_on(engine, kafka.bootstrap, topic_prefix)


def ledger_on(engine: sa.Engine, bootstrap: str, prefix: str) -> Ledger:
    return Ledger(
        engine=engine,
        bootstrap=bootstrap,
        topic_prefix=prefix,
        stop=threading.Event(),
        metrics=Metrics(),
        now=lambda: time.time_ns() // 1000,
    )


def test_sql_is_the_journal_and_aborted_transactions_are_not_there(ledger: Ledger, writer: JournalWriter) -> None:
    assert run(ledger, once=True) == Stored()
    for seed in (1, 2):
        writer.write(list(entries(700, seed)))
        stored = run(ledger, once=True)
    records = read_topic(writer.bootstrap, writer.topic)
    assert len(records) == 1400
    assert contents(ledger.engine) == expected(records)
    assert stored.sequence == records[-1].offset
    assert ledger.metrics.gauge("plumbline_ledger_sequence")._value.get() == records[-1].offset


def test_the_newest_audit_stands_among_the_metrics(ledger: Ledger, writer: JournalWriter) -> None:
    writer.write(list(entries(10, 1)))
    for compared, different in ((400, 0), (500, 1)):
        with transaction(ledger.engine) as session:
            record_audit(
                session,
                started_at=NOW,
                finished_at=NOW + 1,
                first_sequence=0,
                last_sequence=compared,
                compared=compared,
                different=different,
                detail=[],
            )
    run(ledger, once=True)
    text = ledger.metrics.text().decode()
    assert "plumbline_audit_compared 500.0" in text
    assert "plumbline_audit_different 1.0" in text


def test_the_newest_drift_run_stands_among_the_metrics(ledger: Ledger, writer: JournalWriter) -> None:
    writer.write(list(entries(10, 1)))

    def run_with(*figures: tuple[str, str, float | None, str, float]) -> None:
        with transaction(ledger.engine) as session:
            drift = DriftRun(
                started_at=NOW, finished_at=NOW, since_ms=0, until_ms=1, model_version=1, trained="a..b",
                compared=1200, level="alarm",
            )  # fmt: skip
            record_drift(
                session,
                drift,
                [
                    DriftFigure(kind=kind, name=name, psi=psi, level=level, missing_then=0.1, missing_now=now, bins={})
                    for kind, name, psi, level, now in figures
                ],
            )

    run_with(("feature", "gone", 3.0, "alarm", 0.1))
    run_with(
        ("score", "score", 0.02, "calm", 0.0),
        ("feature", "amount_log", 0.5, "alarm", 0.6),
        ("feature", "weekend", 0.9, "cycle", 0.1),
        ("feature", "night", None, "few", 0.1),
    )
    run(ledger, once=True)
    text = ledger.metrics.text().decode()
    assert 'plumbline_drift_psi{feature="amount_log"} 0.5' in text
    assert 'plumbline_drift_missing_difference{feature="amount_log"} 0.5' in text
    assert 'plumbline_drift_psi{feature="weekend"} 0.9' in text
    assert "plumbline_drift_worst_psi 0.5" in text, "what is not judged is not the worst"
    assert "plumbline_drift_score_psi 0.02" in text
    assert "plumbline_drift_compared 1200.0" in text
    assert "plumbline_drift_run_seconds 1.7e+09" in text
    assert 'feature="gone"' not in text
    assert 'feature="night"' not in text


def test_storing_the_whole_journal_again_changes_nothing(ledger: Ledger, writer: JournalWriter) -> None:
    writer.write(list(entries(600, 3)))
    run(ledger, once=True)
    before = contents(ledger.engine)
    with transaction(ledger.engine) as session:
        session.execute(sa.delete(LedgerPosition))
    again = run(ledger, once=True)
    assert again.decisions == len(before["decisions"])
    assert contents(ledger.engine) == before


@pytest.mark.parametrize("raw", [b'{"type":"gossip"}', b"\xff", None])
def test_a_record_that_cannot_be_read_is_a_hard_stop(ledger: Ledger, writer: JournalWriter, raw: bytes | None) -> None:
    writer.write(list(entries(50, 4)))
    writer.write_raw(raw)
    writer.write(list(entries(50, 5)))
    bad = read_topic(writer.bootstrap, writer.topic)[50].offset
    for _ in range(2):
        with pytest.raises(JournalRefused, match=f"record {bad} of {writer.topic} .* nothing from here on was stored"):
            run(ledger)
        records = read_topic(writer.bootstrap, writer.topic)[:50]
        assert contents(ledger.engine) == expected(records)


def test_another_journal_than_the_one_in_sql_is_refused(ledger: Ledger, writer: JournalWriter) -> None:
    writer.write(list(entries(20, 6)))
    with ledger.engine.begin() as connection:
        move_position(connection, writer.topic, 0, None, 10_000)
    with pytest.raises(JournalRefused, match="SQL holds it up to 10000: this is another journal"):
        run(ledger)


def test_a_journal_that_was_created_again_is_refused_however_long_it_is(ledger: Ledger, writer: JournalWriter) -> None:
    writer.write(list(entries(60, 7)))
    run(ledger, once=True)
    run(ledger, once=True)
    with ledger.engine.begin() as connection:
        newest = connection.scalar(sa.select(sa.func.max(StoredDecision.sequence)))
        changed = sa.update(StoredDecision).where(StoredDecision.sequence == newest)
        connection.execute(changed.values(sequence=newest + 1))
    with pytest.raises(JournalRefused, match=f"does not hold the decision on .* at {newest + 1}"):
        run(ledger, once=True)


@pytest.mark.parametrize(
    ("stored", "first", "end", "start"), [(None, 0, 9, 0), (None, 5, 9, 5), (5, 5, 9, 5), (9, 0, 9, 9)]
)
def test_reading_starts_where_sql_ends(stored: int | None, first: int, end: int, start: int) -> None:
    assert starting_offset(stored, first, end, "decisions") == start


def test_a_journal_whose_beginning_is_gone_is_refused() -> None:
    with pytest.raises(JournalRefused, match="begins at 5, but SQL ends before 4"):
        starting_offset(4, 5, 9, "decisions")


def test_tables_of_another_version_are_refused(ledger: Ledger, writer: JournalWriter) -> None:
    schema.migrate(ledger.engine, "base")
    with pytest.raises(Unready, match="run `plumbline migrate`"):
        run(ledger)


@pytest.mark.parametrize(("expected_position", "following"), [(None, 5), (9, 20)])
def test_two_ledgers_never_store_the_same_batch(
    engine: sa.Engine, expected_position: int | None, following: int
) -> None:
    with engine.begin() as connection:
        move_position(connection, "decisions", 0, None, 10)
    with engine.begin() as connection, pytest.raises(LedgerMoved, match="another ledger"):
        move_position(connection, "decisions", 0, expected_position, following)
    with engine.connect() as connection:
        assert next_offset(connection, "decisions", 0) == 10


def test_a_broker_that_is_away_ends_a_run_once_with_its_address(tmp_path: Path) -> None:
    engine = open_engine(Settings(data_dir=str(tmp_path)))
    schema.migrate(engine)
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:9.*PLUMBLINE_KAFKA_BOOTSTRAP"):
        run(ledger_on(engine, "127.0.0.1:9", ""), once=True)
    engine.dispose()


def test_a_missing_topic_is_named(engine: sa.Engine, kafka: Any, topic_prefix: str) -> None:
    with pytest.raises(BrokerUnavailable, match=f"no topic {topic_prefix}decisions .*`plumbline topics`"):
        run(ledger_on(engine, kafka.bootstrap, topic_prefix), once=True)


def give_verdicts(engine: sa.Engine, count: int) -> list[str]:
    """Verdicts on the first open alerts; their label ids."""
    with transaction(engine) as session:
        waiting = session.scalars(sa.select(Alert).where(Alert.status == "open").limit(count)).all()
        for alert in waiting:
            record_verdict(
                session, alert.id, verdict="fraud", note="蓝", by="ada", now_us=NOW, label_id=f"label_{alert.id}"
            )
        return [f"label_{alert.id}" for alert in waiting]


def test_verdicts_reach_the_labels_topic_once_and_in_order(ledger: Ledger, writer: JournalWriter) -> None:
    writer.write(list(entries(300, 7)))
    run(ledger, once=True)
    given = give_verdicts(ledger.engine, 20)
    assert run(ledger, once=True).published == len(given) == 20
    assert run(ledger, once=True).published == 0
    records = read_topic(writer.bootstrap, f"{ledger.topic_prefix}labels")
    labels = [parse(record.value, NOW) for record in records]
    assert sorted(label.label_id for label in labels) == sorted(given)
    assert all(record.key.decode() == label.transaction_id for record, label in zip(records, labels, strict=True))
    assert {(label.source, label.by, label.note, label.known_at) for label in labels} == {("analyst", "ada", "蓝", NOW)}
    with transaction(ledger.engine) as session:
        assert waiting_verdicts(session) == []


def test_killed_between_acknowledgement_and_mark_the_same_label_is_sent_again(
    ledger: Ledger, writer: JournalWriter
) -> None:
    """The database takes no mark, as if the process had died there; the next start sends the same bytes."""
    writer.write(list(entries(300, 8)))
    run(ledger, once=True)
    given = give_verdicts(ledger.engine, 5)

    def die() -> int:
        raise KeyboardInterrupt

    dying = Outbox(ledger.engine, ledger.bootstrap, f"{ledger.topic_prefix}labels", now=die)
    with pytest.raises(KeyboardInterrupt):
        dying.publish()
    dying.close()
    assert run(ledger, once=True).published == 5
    records = read_topic(writer.bootstrap, f"{ledger.topic_prefix}labels")
    assert len(records) == 10
    by_id = {parse(record.value, NOW).label_id: record.value for record in records}
    assert sorted(by_id) == sorted(given)
    assert all(record.value == by_id[parse(record.value, NOW).label_id] for record in records)


def test_a_verdict_that_overtook_its_transaction_closes_nothing_within_one_batch(
    engine: sa.Engine, ledger: Ledger, writer: JournalWriter
) -> None:
    """Which of the two came first is the journal's word, also when the ledger stores both at once."""
    made = list(entries(2000, 21))
    early = {each.label.transaction_id for each in made if isinstance(each, LabelApplied) and not each.account_id}
    opened = {each.transaction.transaction_id for each in made if isinstance(each, Decision) and alert_of(each)}
    assert early & opened
    writer.write(made)
    run(ledger, once=True)
    records = read_topic(writer.bootstrap, writer.topic)
    assert contents(engine) == expected(records)
    alerts = {each["transaction_id"]: each["status"] for each in contents(engine)["alerts"]}
    assert "open" in {alerts[each] for each in early & opened}


def test_a_label_given_elsewhere_closes_its_alert(ledger: Ledger, writer: JournalWriter) -> None:
    """A database filled anew from the journal has the same open alerts as the one that was lost."""
    writer.write(list(entries(900, 9)))
    run(ledger, once=True)
    alerts = contents(ledger.engine)["alerts"]
    closed = [alert for alert in alerts if alert["status"] == "closed"]
    assert closed
    assert len(closed) < len(alerts)
    assert all(alert["closed_by"] == "ada" for alert in closed)
