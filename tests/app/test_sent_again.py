"""Conflicts in the console: an analyst sees that an id was sent again, and what was not the same; waiting labels."""

import re

import msgspec
import pytest
from sqlalchemy.orm import Session

from app import entries
from plumbline.decision import Source
from plumbline.journal import Conflict, LabelApplied
from plumbline.label import Label
from plumbline.transaction import Transaction
from store.alerts import alert_of_transaction, open_alerts
from store.ledger import Rows, store
from store.tables import Decision
from store.tables import Label as StoredLabel

SEQUENCE = 900_000


def put(console, *found):
    """Store entries as the ledger would."""
    rows = Rows()
    for number, entry in enumerate(found):
        entries.add(rows, entry, SEQUENCE + number, console.now_us // 1000)
    with console.engine.begin() as connection:
        store(connection, rows)


def transaction_of(decision):
    return Transaction(**{name: getattr(decision, name) for name in Transaction.__struct_fields__})


def conflict(console, transaction, **changes):
    sent = msgspec.structs.replace(transaction, **changes)
    source = Source("transactions", 0, 77, console.now_us // 1000)
    return Conflict(transaction=sent, source=source, identical=sent == transaction, journaled_at=console.now_us)


@pytest.fixture
def alerted(console):
    """The transaction of the costliest open alert."""
    with Session(console.engine) as session:
        return transaction_of(open_alerts(session, 1)[0].decision)


def card(page):
    """The card's text, without tags; empty where there is none."""
    found = re.search(r'<section class="card resent-card".*?</section>', page, re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found[0])) if found else ""


def test_an_alert_without_conflicts_shows_no_card(console, alerted):
    page = console.client("analyst").get(f"/transactions/{alerted.transaction_id}", follow_redirects=True).text
    assert card(page) == ""


@pytest.mark.parametrize(
    ("language", "title", "same", "other", "amount"),
    [
        ("en", "Sent again", "with the same content", "with other content", "Amount"),
        ("zh-CN", "重复发送", "内容相同", "内容不同", "金额"),
    ],
)
def test_an_alerts_page_shows_its_conflicts_and_what_differed(console, alerted, language, title, same, other, amount):
    put(console, conflict(console, alerted), conflict(console, alerted, amount_minor=123, merchant_id="m-else"))
    client = console.client("analyst")
    client.environ_base["HTTP_ACCEPT_LANGUAGE"] = language
    shown = card(client.get(f"/transactions/{alerted.transaction_id}", follow_redirects=True).text)
    assert title in shown
    assert shown.index(other) < shown.index(same), "the newest first"
    assert re.search(rf"{amount} .*→ .*1\.23", shown)
    assert re.search(rf"{alerted.merchant_id} → .*m-else", shown)
    assert str(SEQUENCE + 1) in shown


def test_a_transaction_that_opened_no_alert_shows_them_too_and_hostile_text_stays_text(console):
    with Session(console.engine) as session:
        decided = session.query(Decision).filter(Decision.outcome == "approve").first()
        assert alert_of_transaction(session, decided.transaction_id) is None
        transaction = transaction_of(decided)
    nowhere = {"latitude_e6": None, "longitude_e6": None}
    put(console, conflict(console, transaction, device_id="<script>alert(1)</script>", **nowhere))
    page = console.client("analyst").get(f"/transactions/{transaction.transaction_id}").text
    assert "with other content" in card(page)
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "not known" in card(page)


def test_times_that_differ_by_less_than_a_second_are_told_apart(console, alerted):
    other = alerted.occurred_at // 10**6 * 10**6 + (alerted.occurred_at + 1) % 10**6
    put(console, conflict(console, alerted, occurred_at=other))
    page = console.client("analyst").get(f"/transactions/{alerted.transaction_id}", follow_redirects=True).text
    assert re.search(rf"Occurred .*{alerted.occurred_at} → .*{other}", card(page))


def test_a_label_that_waited_is_counted_in_sql_when_the_journal_says_so(console, alerted):
    label = Label(
        label_id="early", transaction_id=alerted.transaction_id, verdict="fraud", source="chargeback",
        known_at=console.now_us,
    )  # fmt: skip
    source = Source("labels", 0, 9, console.now_us // 1000)
    early = LabelApplied(label=label, source=source, effect="waiting", journaled_at=console.now_us)
    counted = LabelApplied(
        label=label, source=None, effect="counted", account_id=alerted.account_id, merchant_id=alerted.merchant_id,
        journaled_at=console.now_us + 1,
    )  # fmt: skip
    put(console, early)
    with Session(console.engine) as session:
        assert session.get(StoredLabel, "early").effect == "waiting"
    for _ in range(2):  # stored again, it changes nothing
        put(console, early, counted)
        with Session(console.engine) as session:
            stored = session.get(StoredLabel, "early")
            assert (stored.effect, stored.account_id, stored.sequence) == ("counted", alerted.account_id, SEQUENCE)
