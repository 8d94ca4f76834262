"""Warnings: on every page, in both languages, until their cause is gone and not a moment longer."""

import functools
import re

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from store.audit_tables import Audit
from store.audits import record_audit, standing_audits
from store.drifts import record_drift
from store.engine import transaction
from store.imbalances import clear_imbalance, record_imbalance
from store.tables import Assignment, Decision, Rejected
from tests.app.conftest import drift_run

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


def audit(console, different, first=0, last=9, **more):
    with Session(console.engine) as session, session.begin():
        record_audit(
            session, started_at=1, finished_at=2, first_sequence=first, last_sequence=last,
            compared=last - first + 1, different=different, detail=[], **more,
        )  # fmt: skip


@pytest.fixture
def audited(console):
    """A function that stores an audit of ten decisions with so many differences."""
    return functools.partial(audit, console)


def warned(console, path="/"):
    """Names of the warnings on a page."""
    return re.findall(r'data-warning="([a-z_]+)"', console.client("analyst").get(path).text)


def test_without_a_cause_no_page_warns(console):
    client = console.client("analyst")
    assert [path for path in PAGES if "data-warning" in client.get(path).text] == []


def test_a_difference_stands_on_every_page_until_the_same_range_is_exact(console, audited):
    client = console.client("analyst")
    audited(3)
    for path in PAGES:
        page = client.get(path).text
        assert page.count('data-warning="audit_differs"') == 1, path
        assert 'role="alert"' in page, path
        assert "Audits found 3 differences in 10 decisions" in page, path
    assert "审计在 10 笔决策中发现 3 处差异" in client.get("/", headers={"Accept-Language": "zh-CN"}).text
    audited(0)
    assert [path for path in PAGES if "data-warning" in client.get(path).text] == []


HARMLESS = {
    "an empty range": {"first": 0, "last": -1},
    "a smaller range": {"first": 1, "last": 9},
    "another range": {"first": 10, "last": 99},
    "a sample": {"sample": "1/2"},
    "another journal": {"journal": "kept"},
    "messages that nobody keeps any longer": {"raw_missing": 1},
}


@pytest.mark.parametrize("name", HARMLESS)
def test_an_audit_that_says_nothing_about_a_difference_does_not_put_it_out(console, audited, name):
    audited(1, journal="live")
    audited(0, **{"journal": "live", **HARMLESS[name]})
    assert warned(console) == ["audit_differs"]
    assert 'class="figure light differs"' in console.client("analyst").get("/").text
    assert "verdict-line light differs" in console.client("analyst").get("/drift").text
    audited(0, journal="live")
    assert warned(console) == []
    assert 'class="figure light exact"' in console.client("analyst").get("/").text


def test_an_empty_audit_does_not_hide_that_others_compared_something(console, audited):
    audited(0, last=-1)
    assert 'class="figure light exact"' in console.client("analyst").get("/").text


def acknowledge(client, token_of, kind, number, why):
    token = token_of(client.get("/audits").text)
    return client.post(f"/audits/{kind}/{number}/acknowledge", data={"csrf_token": token, "why": why})


def test_a_supervisor_acknowledges_a_difference_with_a_reason_that_is_kept(console, audited, token_of):
    audited(2)
    with Session(console.engine) as session:
        (number,) = [each.id for each in standing_audits(session)]
    client = console.client("supervisor")
    for why in ("", "  ", "x" * 2001):
        assert acknowledge(client, token_of, "audit", number, why).status_code == 422
    assert warned(console) == ["audit_differs"]
    done = acknowledge(client, token_of, "audit", number, "a <test> record, changed by hand")
    assert done.status_code == 303
    assert warned(console) == []
    page = console.client("analyst").get("/audits").text
    assert "Acknowledged by supervisor@bank.example" in page
    assert "a &lt;test&gt; record, changed by hand" in page
    with Session(console.engine) as session:
        found = session.get(Audit, number)
        assert (found.acknowledged_by, found.acknowledged_at > console.now_us) == ("supervisor@bank.example", True)
    audited(1)
    assert warned(console) == ["audit_differs"], "the next difference is another one"


def test_who_comes_second_has_no_right_or_names_nothing_is_told_so(console, audited, token_of):
    audited(2)
    with Session(console.engine) as session, session.begin():
        (number,) = [each.id for each in standing_audits(session)]
        record_imbalance(session, 4, [], console.now_us)
    for role in ("analyst", "engineer"):
        page = console.client(role).get("/audits").text
        assert "A supervisor can acknowledge it." in page
        assert "/acknowledge" not in page
        client = console.client(role)
        token = token_of(client.get("/profile").text)
        answer = client.post(f"/audits/audit/{number}/acknowledge", data={"csrf_token": token, "why": "mine"})
        assert answer.status_code == 403
    client = console.client("supervisor")
    token = token_of(client.get("/audits").text)
    for kind, other in (("audit", 10**6), ("audit", 10**30), ("nothing", number)):
        answer = client.post(f"/audits/{kind}/{other}/acknowledge", data={"csrf_token": token, "why": "mine"})
        assert answer.status_code == 404
    assert acknowledge(client, token_of, "audit", number, "first").status_code == 303
    second = acknowledge(client, token_of, "audit", number, "second")
    assert second.status_code == 409
    with Session(console.engine) as session:
        assert session.get(Audit, number).acknowledged_why == "first"


def test_an_imbalance_that_is_over_stands_until_it_is_acknowledged(console, token_of):
    with Session(console.engine) as session, session.begin():
        record_imbalance(session, 4, [{"name": "once"}], console.now_us)
        clear_imbalance(session, console.now_us + 1)
    assert warned(console) == ["imbalance"]
    assert acknowledge(console.client("supervisor"), token_of, "imbalance", 1, "a test").status_code == 303
    assert warned(console) == []


@pytest.mark.parametrize("level", ["few", "calm"])
def test_a_drift_alarm_gives_way_only_to_a_window_that_can_tell(console, level):
    day = 86_400_000

    def record(level, since, until, version=3):
        run, figures = drift_run(console.now_us, level, ("amount_log",))
        run.since_ms, run.until_ms, run.model_version = since, until, version
        with transaction(console.engine) as session:
            record_drift(session, run, figures)

    end = console.now_us // 1000 + 10 * day
    record("alarm", end, end + day)
    assert warned(console) == ["drift_alarm"]
    if level == "few":
        record("few", end + day, end + 2 * day)
    else:
        record("calm", end + day, end + day + 3_600_000)
        record("calm", end - 5 * day, end - 4 * day)
    assert warned(console) == ["drift_alarm"]
    record("calm", end + 2, end + day + 2)
    assert warned(console) == []
    record("alarm", end + day, end + 2 * day)
    record("calm", end + 2 * day, end + 3 * day, version=4)
    assert warned(console) == [], "another version decides"


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
