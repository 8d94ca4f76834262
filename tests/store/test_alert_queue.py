"""The queue, the live view's cursor, and the one verdict that closes an alert, on both databases."""

import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from plumbline.errors import AlertClosed, AlertNotFound, InvalidLabel, TransactionNotFound
from plumbline.label import NOTE_MAX_CHARACTERS
from store.alerts import alert, alerts_after, newest_alert_id, open_alerts, open_count
from store.decisions import account_timeline, decision
from store.engine import transaction
from store.labels import label_of, mark_published, record_verdict, verdicts_of, waiting_verdicts
from store.tables import Alert, Decision

NOW = 1_700_000_100_000_000


@pytest.fixture
def alerts(engine: sa.Engine, stored_decision: Callable[..., Decision]) -> list[int]:
    """Twelve open alerts, whose expected losses repeat: 0 10 20 0 10 20 …; their ids in the order of opening."""
    with transaction(engine) as session:
        session.add_all(stored_decision(f"tx_{n}", n, account_id=f"acc_{n % 2}") for n in range(12))
        session.flush()
        made = [
            Alert(transaction_id=f"tx_{n}", outcome="review", expected_loss_minor=n % 3 * 10, opened_at=NOW + n)
            for n in range(12)
        ]
        session.add_all(made)
        session.flush()
        return [each.id for each in made]


@pytest.mark.parametrize("page", [1, 4, 5, 100])
def test_pages_of_the_queue_join_without_gap_or_repeat(engine: sa.Engine, alerts: list[int], page: int) -> None:
    shown: list[Alert] = []
    with Session(engine) as session:
        while True:
            after = (shown[-1].expected_loss_minor, shown[-1].id) if shown else None
            more = open_alerts(session, limit=page, after=after)
            if not more:
                break
            shown += more
    assert [(each.expected_loss_minor, each.id) for each in shown] == sorted(
        ((n % 3 * 10, alert_id) for n, alert_id in enumerate(alerts)), key=lambda key: (-key[0], key[1])
    )
    assert shown[0].decision.transaction_id == shown[0].transaction_id


def test_a_live_view_sees_what_is_newer_than_its_cursor(engine: sa.Engine, alerts: list[int]) -> None:
    with Session(engine) as session:
        assert newest_alert_id(session) == alerts[-1]
        assert [each.id for each in alerts_after(session, alerts[8])] == alerts[9:]
        assert [each.id for each in alerts_after(session, 0, limit=2)] == alerts[:2]
        assert open_count(session) == 12


def test_an_empty_database_has_an_empty_queue(engine: sa.Engine) -> None:
    with Session(engine) as session:
        assert open_alerts(session) == []
        assert newest_alert_id(session) == 0
        with pytest.raises(AlertNotFound, match="alert 5 does not exist"):
            alert(session, 5)
        with pytest.raises(TransactionNotFound, match="tx_none"):
            decision(session, "tx_none")


def test_ids_grow_even_after_the_newest_alert_is_gone(
    engine: sa.Engine, alerts: list[int], stored_decision: Callable[..., Decision]
) -> None:
    with transaction(engine) as session:
        session.delete(session.get_one(Alert, alerts[-1]))
    with transaction(engine) as session:
        session.add(stored_decision("tx_new", 99))
        session.flush()
        session.add(Alert(transaction_id="tx_new", outcome="decline", expected_loss_minor=1, opened_at=NOW))
    with Session(engine) as session:
        assert newest_alert_id(session) > alerts[-1]


def test_a_timeline_is_one_account_newest_first(engine: sa.Engine, alerts: list[int]) -> None:
    with Session(engine) as session:
        newest = account_timeline(session, "acc_1", limit=3)
        assert [each.sequence for each in newest] == [11, 9, 7]
        older = account_timeline(session, "acc_1", before_sequence=7)
        assert [each.sequence for each in older] == [5, 3, 1]


def test_a_verdict_closes_its_alert_and_waits_in_the_outbox(engine: sa.Engine, alerts: list[int]) -> None:
    with transaction(engine) as session:
        record_verdict(session, alerts[3], verdict="fraud", note="被盗 📵", by="ada", now_us=NOW, label_id="label_1")
    with transaction(engine) as session:
        closed = alert(session, alerts[3])
        assert (closed.status, closed.closed_by, closed.closed_at) == ("closed", "ada", NOW)
        assert open_count(session) == 11
        (waiting,) = waiting_verdicts(session)
        label = label_of(waiting)
        assert (label.label_id, label.transaction_id, label.verdict) == ("label_1", "tx_3", "fraud")
        assert (label.source, label.known_at, label.by, label.note) == ("analyst", NOW, "ada", "被盗 📵")
        mark_published(session, ["label_1"], NOW + 5)
        assert waiting_verdicts(session) == []
        mark_published(session, ["label_1"], NOW + 9)
        session.expire_all()
        assert [each.published_at for each in verdicts_of(session, "tx_3")] == [NOW + 5]


def test_the_same_form_sent_twice_gives_one_verdict(engine: sa.Engine, alerts: list[int]) -> None:
    for _ in range(2):
        with transaction(engine) as session:
            given = record_verdict(
                session, alerts[0], verdict="genuine", note="", by="ada", now_us=NOW, label_id="label_1"
            )
            assert given.verdict == "genuine"
    with transaction(engine) as session:
        assert len(verdicts_of(session, "tx_0")) == 1


def test_the_second_analyst_is_told_who_closed_the_alert_and_when(engine: sa.Engine, alerts: list[int]) -> None:
    with transaction(engine) as session:
        record_verdict(session, alerts[0], verdict="fraud", note="", by="ada", now_us=NOW, label_id="label_1")
    with pytest.raises(AlertClosed, match=r"was closed by ada at 2023-11-14 22:15:00 UTC") as caught:  # noqa: SIM117
        with transaction(engine) as session:
            record_verdict(session, alerts[0], verdict="fraud", note="", by="bob", now_us=NOW + 1, label_id="label_2")
    assert (caught.value.closed_by, caught.value.closed_at) == ("ada", NOW)
    with transaction(engine) as session:
        assert [each.by for each in verdicts_of(session, "tx_0")] == ["ada"]


@pytest.mark.parametrize(
    ("verdict", "note", "field"), [("guilty", "", "verdict"), ("fraud", "x" * (NOTE_MAX_CHARACTERS + 1), "note")]
)
def test_a_wrong_verdict_leaves_the_alert_open(
    engine: sa.Engine, alerts: list[int], verdict: str, note: str, field: str
) -> None:
    with pytest.raises(InvalidLabel) as caught, transaction(engine) as session:
        record_verdict(session, alerts[0], verdict=verdict, note=note, by="ada", now_us=NOW, label_id="label_1")
    assert caught.value.field == field
    with transaction(engine) as session:
        assert alert(session, alerts[0]).status == "open"
        assert waiting_verdicts(session) == []


def test_of_two_analysts_at_once_exactly_one_wins(engine: sa.Engine, alerts: list[int]) -> None:
    """All alerts, each judged by eight threads that start together and read first, as a request does."""
    people = [f"analyst_{n}" for n in range(8)]
    start = threading.Barrier(len(people))
    won: list[tuple[int, str]] = []
    lost: list[AlertClosed] = []
    broken: list[BaseException] = []

    def judge(by: str) -> None:
        for alert_id in alerts:
            start.wait()
            try:
                with transaction(engine) as session:
                    alert(session, alert_id)
                    record_verdict(
                        session,
                        alert_id,
                        verdict="fraud",
                        note="",
                        by=by,
                        now_us=NOW,
                        label_id=f"label_{alert_id}_{by}",
                    )
                won.append((alert_id, by))
            except AlertClosed as error:
                lost.append(error)
            except Exception as error:  # noqa: BLE001 - anything else must be none
                broken.append(error)

    threads = [threading.Thread(target=judge, args=(by,)) for by in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broken == []
    assert sorted(alert_id for alert_id, _ in won) == alerts
    assert len(lost) == len(alerts) * (len(people) - 1)
    assert {(error.alert_id, error.closed_by) for error in lost} == set(won)
    with transaction(engine) as session:
        stored = {(each.alert_id, each.by) for each in waiting_verdicts(session)}
        assert stored == set(won)
        assert {(each.id, each.closed_by) for each in session.scalars(sa.select(Alert))} == set(won)
