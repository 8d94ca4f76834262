"""The guard's page, an incident with its picture, who acknowledges it, and the warnings that stand until then."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from app.guardrails import AMOUNT_EDGES, HEIGHT, WIDTH, picture, slice_words, thinned
from release import counts
from store.engine import transaction
from store.guard_tables import Guard
from store.guards import incident, unacknowledged_count
from store.tables import Assignment
from tests.app.guarded import NEWEST, store_canaries

NUMBERS = st.none() | st.floats(0, 1e6)
POINTS = st.lists(st.tuples(st.floats(0, 1e9), NUMBERS, NUMBERS, NUMBERS, st.floats(0, 1)), max_size=150)


@pytest.fixture
def broken(console):
    """The number of a stored incident."""
    return store_canaries(console.engine)


@given(POINTS)
def test_every_line_of_a_picture_lies_inside_it(points):
    ordered = sorted(points, key=lambda each: each[0])
    drawn = picture(ordered)
    for place, line in ((1, drawn.mine), (2, drawn.champion), (3, drawn.limit), (4, drawn.evidence)):
        corners = [tuple(map(float, each.split(","))) for each in line.split()]
        assert len(corners) == sum(each[place] is not None for each in ordered)
        assert all(-0.01 <= x <= WIDTH + 0.01 and -0.01 <= y <= HEIGHT + 0.01 for x, y in corners)
    few = thinned(ordered)
    assert len(few) <= 12
    assert not ordered or few[-1] == ordered[-1]


def test_the_console_knows_the_bands_that_are_counted():
    assert counts.AMOUNT_EDGES == AMOUNT_EDGES


def test_slices_have_words(console):
    with console.app.test_request_context():
        told = [slice_words(each) for each in (
            "channel ecom", "country others", "amount 0", "amount 2", "amount 4", "score 0.1 - 0.2", "review", "",
        )]  # fmt: skip
    assert told == [
        "Online", "other countries", "amounts below 5.00", "amounts from 20.00 to 100.00", "amounts from 500.00",
        "scores 0.1 – 0.2", "Review", "",
    ]  # fmt: skip


def test_the_page_shows_every_rule_of_a_version_under_guard(console, broken):
    page = console.client("analyst").get("/incidents").text
    assert "version 4 beside champion 3" in page
    assert "30% of the accounts" in page
    assert "with a probability of 1% at most" in page
    rules = re.findall(r'data-rule="(\w+)"', page)
    assert {"errors", "latency", "slower", "scores", "outcomes", "load", "slices"} <= set(rules)
    assert f'href="/incidents/{broken}"' in page


def test_an_incident_shows_what_happened_and_how_soon_it_was_undone(console, broken):
    page = console.client("analyst").get(f"/incidents/{broken}").text
    assert "in force after 0.4 s" in page
    assert 'class="line mine"' in page
    assert "is rolled back by the guard" in page
    assert "rollback-50" in page
    assert "an engineer or a supervisor can acknowledge it" in page
    assert console.client("analyst").get("/incidents/999").status_code == 404


def test_an_incident_is_acknowledged_once_by_who_may(console, broken, token_of):
    address = f"/incidents/{broken}/acknowledge"
    analyst, engineer, supervisor = (console.client(role) for role in ("analyst", "engineer", "supervisor"))
    note = {"note": "the trainer's fault\r\nseen"}

    def form(client):
        return note | {"csrf_token": token_of(client.get(f"/incidents/{broken}").text)}

    assert 'data-warning="incident_open"' in analyst.get("/").text
    assert analyst.post(address, data=form(analyst)).status_code == 403
    assert engineer.post(address, data=form(engineer) | {"note": "x" * 2001}).status_code == 422
    asked = form(supervisor)
    assert engineer.post(address, data=form(engineer)).status_code == 303
    second = supervisor.post(address, data=asked)
    assert second.status_code == 409
    assert "Acknowledged by engineer@bank.example" in second.text
    with Session(console.engine) as session:
        found = incident(session, broken)
        assert (found.acknowledged_by, found.note) == ("engineer@bank.example", "the trainer's fault\nseen")
        assert unacknowledged_count(session) == 0
    assert 'data-warning="incident_open"' not in analyst.get("/").text


def test_a_guard_that_is_silent_while_a_canary_decides_is_warned_of(console, broken):
    client = console.client("analyst")
    assert 'data-warning="guard_silent"' not in client.get("/").text
    with transaction(console.engine) as session:
        session.get(Assignment, NEWEST).journaled_at = console.now_us - 3_500_000_000
        session.get(Guard, 1).updated_at = console.now_us - 3_600_000_000
    page = client.get("/").text
    assert 'data-warning="guard_silent"' in page
    assert "Start plumbline guard" in page


def test_without_anything_under_guard_the_page_says_so(console):
    page = console.client("analyst").get("/incidents").text
    assert "No version is under guard" in page
    assert "No incident so far" in page
