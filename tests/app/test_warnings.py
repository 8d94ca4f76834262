"""Warnings: on every page, in both languages, until their cause is gone and not a moment longer."""

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from store.audits import record_audit
from store.tables import Assignment, Decision, Rejected

PAGES = (
    "/",
    "/alerts",
    "/alerts/1",
    "/transactions",
    "/transactions/tx-000000",
    "/audits",
    "/profile",
    "/nothing-here",
)


@pytest.fixture
def audited(console):
    """A function that stores an audit of ten decisions with so many differences."""

    def record(different):
        with Session(console.engine) as session, session.begin():
            record_audit(
                session, started_at=1, finished_at=2, first_sequence=0, last_sequence=9, compared=10,
                different=different, detail=[],
            )  # fmt: skip

    return record


def test_without_a_cause_no_page_warns(console):
    client = console.client("analyst")
    assert [path for path in PAGES if "data-warning" in client.get(path).text] == []


def test_a_difference_stands_on_every_page_until_a_newer_audit_is_exact(console, audited):
    client = console.client("analyst")
    audited(3)
    for path in PAGES:
        page = client.get(path).text
        assert page.count('data-warning="audit_differs"') == 1, path
        assert 'role="alert"' in page, path
        assert "The newest audit found 3 differences in 10 decisions" in page, path
    assert "最近一次审计在 10 笔决策中发现 3 处差异" in client.get("/", headers={"Accept-Language": "zh-CN"}).text
    audited(0)
    assert [path for path in PAGES if "data-warning" in client.get(path).text] == []


def test_the_part_that_the_overview_asks_for_holds_the_warnings_alone(console, audited):
    client = console.client("engineer")
    assert client.get("/warnings").text.strip() == ""
    audited(1)
    part = client.get("/warnings").text
    assert 'data-warning="audit_differs"' in part
    assert "<html" not in part


def test_who_is_not_logged_in_learns_nothing(console, audited):
    audited(1)
    assert "data-warning" not in console.client().get("/login").text


@pytest.mark.parametrize(("seconds", "words"), [(-59, ""), (-61, "behind the broker"), (61, "ahead of the broker")])
def test_a_scorers_clock_that_differs_by_a_minute_is_a_warning_until_a_decision_shows_it_right(console, seconds, words):
    client = console.client("analyst")
    with Session(console.engine) as session, session.begin():
        newest = session.scalars(select(Decision).order_by(Decision.sequence.desc()).limit(1)).one()
        newest.decided_at = (newest.journaled_at_ms + seconds * 1000) * 1000
    page = client.get("/").text
    assert page.count('data-warning="clock_differs"') == bool(words)
    assert words in page.replace("&#39;", "'")
    with Session(console.engine) as session, session.begin():
        session.execute(update(Decision).values(decided_at=Decision.journaled_at_ms * 1000))
    assert 'data-warning="clock_differs"' not in client.get("/").text


def test_a_large_share_of_rejections_is_a_warning_while_it_lasts(console):
    client = console.client("analyst")
    with Session(console.engine) as session:
        newest = session.scalars(select(Decision).order_by(Decision.sequence.desc()).limit(1)).one()

    def reject(first, count, journaled_at):
        with Session(console.engine) as session, session.begin():
            session.add_all(
                Rejected(
                    sequence=newest.sequence + first + n, source_topic="transactions", source_partition=0,
                    source_offset=n, error="", journaled_at=journaled_at,
                )
                for n in range(count)
            )  # fmt: skip

    reject(1, 500, console.now_us - 3600 * 10**6)
    assert "many_rejected" not in client.get("/").text
    reject(501, 500, console.now_us)
    page = client.get("/").text
    assert page.count('data-warning="many_rejected"') == 1
    assert "messages were rejected: look at the dead letters" in page


def test_a_version_that_nobody_promoted_is_a_caution_until_something_is_assigned(console):
    client = console.client("engineer")
    with Session(console.engine) as session, session.begin():
        newest = session.scalars(select(Decision).order_by(Decision.sequence.desc()).limit(1)).one()
        newest.model_version, newest.score, newest.assignment = 3, 0.25, ""
        session.execute(delete(Assignment))
        sequence = newest.sequence
    page = client.get("/").text
    assert page.count('data-warning="nobody_promoted"') == 1
    assert "Nobody promoted version 3" in page
    with Session(console.engine) as session, session.begin():
        session.add(
            Assignment(
                sequence=sequence + 1, version="a", body={"decides": 3}, fingerprints=["f"], declarations=["f"],
                journaled_at=1,
            )
        )  # fmt: skip
    assert "data-warning" not in client.get("/").text
