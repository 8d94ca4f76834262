"""The overview, finding transactions, audits, the profile, and what is shown when something is wrong."""

import re

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from app.overview import audit_state
from store.audit_tables import Audit
from store.audits import record_audit
from store.engine import engine_at
from store.tables import Decision


def audit(compared, different):
    return Audit(compared=compared, different=different)


@pytest.mark.parametrize(
    ("newest", "state"),
    [
        (None, "none"),
        (audit(0, 0), "none"),
        (audit(10, 0), "exact"),
        (audit(10, 1), "differs"),
        (audit(0, 1), "differs"),
    ],
)
def test_the_audit_light_is_green_only_when_something_was_compared_and_nothing_differed(newest, state):
    assert audit_state(newest) == state


def test_the_overview_shows_the_stores_figures(console):
    page = console.client("analyst").get("/").text
    with Session(console.engine) as session:
        total = session.scalar(sa.select(sa.func.count()).select_from(Decision))
    assert f"{total:,} recomputed, 0 different" in page
    assert 'class="figure light exact"' in page
    assert re.search(r'data-figure="p99_ms">\d+<', page)


def test_a_difference_turns_the_light_red_and_is_listed(console):
    with Session(console.engine) as session, session.begin():
        record_audit(
            session, started_at=1, finished_at=2, first_sequence=0, last_sequence=9, compared=10, different=1,
            detail=[{"sequence": 4, "field": "score"}],
        )  # fmt: skip
    client = console.client("engineer")
    assert 'class="figure light differs"' in client.get("/overview/audit").text
    page = client.get("/audits").text
    assert "First differences" in page
    assert "sequence" in page


def test_an_empty_store_shows_dashes_and_friendly_words(empty_console):
    client = empty_console.client("analyst")
    assert 'data-figure="p99_ms">–<' in client.get("/").text
    assert "No decision yet" in client.get("/transactions").text
    assert "No audit has run yet" in client.get("/audits").text


def test_a_transactions_id_leads_to_it_and_an_accounts_lists_its_own(console):
    client = console.client("analyst")
    assert client.get("/transactions?q= tx-000003 ").headers["Location"] == "/transactions/tx-000003"
    with Session(console.engine) as session:
        account = session.get(Decision, "tx-000003").account_id
        own = set(session.scalars(sa.select(Decision.transaction_id).where(Decision.account_id == account)))
    page = client.get(f"/transactions?q={account}").text
    assert set(re.findall(r'class="open" href="/transactions/([^"]+)"', page)) == own


@pytest.mark.parametrize("asked", ["nothing-like-it", "x" * 500, "%", "' OR 1=1 --"])
def test_an_unknown_id_is_said_to_be_unknown(console, asked):
    answer = console.client("analyst").get("/transactions", query_string={"q": asked})
    assert answer.status_code == 200
    assert "Nothing has this id" in answer.text


@pytest.mark.parametrize("outcome", ["approve", "review", "decline"])
def test_the_lists_behind_the_outcomes_go_on_to_the_end(console, outcome):
    client, seen, address = console.client("analyst"), [], f"/transactions?outcome={outcome}"
    for _ in range(100):
        page = client.get(address).text
        seen += re.findall(r'class="open" href="/transactions/([^"]+)"', page)
        following = re.search(r'href="(/transactions\?[^"]*before=[^"]+)" hx-get', page)
        if not following:
            break
        address = following[1].replace("&amp;", "&")
    with Session(console.engine) as session:
        wanted = session.scalars(sa.select(Decision.transaction_id).where(Decision.outcome == outcome))
        assert sorted(seen) == sorted(wanted)


def test_language_and_theme_are_kept_with_the_person(console, token_of):
    client = console.client("analyst")
    data = {"language": "zh_Hans_CN", "theme": "dark", "next": "/alerts", "csrf_token": token_of(client.get("/").text)}
    assert client.post("/profile/view", data=data).headers["Location"] == "/alerts"
    elsewhere = console.client("analyst").get("/alerts").text
    assert 'lang="zh-Hans" data-theme="dark"' in elsewhere
    assert "预警" in elsewhere


@pytest.mark.parametrize("wrong", [{"language": "xx"}, {"theme": "pink"}])
def test_an_unknown_language_or_theme_is_refused(console, token_of, wrong):
    client = console.client("analyst")
    assert client.post("/profile/view", data=wrong | {"csrf_token": token_of(client.get("/").text)}).status_code == 400


@pytest.mark.parametrize(
    ("asked", "lang"),
    [("zh-CN,zh;q=0.9", "zh-Hans"), ("de-DE,de", "en"), ("en-GB", "en"), ("zh", "zh-Hans"), ("", "en")],
)
def test_a_stranger_reads_the_browsers_language(console, asked, lang):
    page = console.client().get("/login", headers={"Accept-Language": asked}).text
    assert f'<html lang="{lang}"' in page


def test_a_fault_shows_a_number_and_no_cause(console, monkeypatch):
    def broken(*_arguments, **_options):
        raise ZeroDivisionError("a secret of the house")

    monkeypatch.setattr("app.transactions.newest_decisions", broken)
    answer = console.client("analyst").get("/transactions")
    assert answer.status_code == 500
    assert re.search(r"Incident <span class=\"id\">[0-9a-f]{8}", answer.text)
    assert "secret of the house" not in answer.text
    assert "Traceback" not in answer.text


def test_without_its_database_the_console_says_so(settings, built_frontend, tmp_path):
    from app import create_app

    folder = tmp_path / "a-file"
    folder.write_text("in the way")
    engine = sa.create_engine(f"sqlite:///{folder}/plumbline.db")
    from store.engine import prepare

    prepare(engine)
    client = create_app(settings, engine).test_client()
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503


def test_tables_that_were_never_made_are_not_ready(settings, built_frontend, tmp_path):
    from app import create_app

    engine = engine_at(sa.URL.create("sqlite", database=str(tmp_path / "empty.db")))
    assert create_app(settings, engine).test_client().get("/readyz").status_code == 503
    engine.dispose()
