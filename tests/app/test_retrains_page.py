"""The pages of the nightly retraining: the list, one night in every state, the card, and who may see them."""

import hashlib
from pathlib import Path

import pytest
from sqlalchemy.orm.attributes import flag_modified

from app.card import NAME
from app.models import FOLDER
from app.retrains import board, compared_metrics, facts_words
from store import models
from store.engine import transaction
from store.retrains import record
from tests.app.nights import FAILED, HOUR_US, REFUSED, RUNNING, SHADOWED, running, store_nights


@pytest.fixture
def nights(console):
    store_nights(console.engine, console.now_us)
    return console


def test_the_list_has_every_night_with_its_verdict_and_figures(nights):
    page = nights.client("analyst").get("/retrains").text
    order = [page.index(f'data-run="{run}"') for run in (RUNNING, FAILED, REFUSED, SHADOWED)]
    assert order == sorted(order), "the newest first"
    for said in ("In the shadow", "Refused", "Failed", "At work: Training", "0.7123 (0.6988)", "1,204,331", "hours"):
        assert said in page, said
    assert 'hx-trigger="every 20s"' in page
    assert nights.client("analyst").get("/retrains/rows").text.strip().startswith("<section")
    assert 'href="/retrains"' in nights.client("analyst").get("/models").text


def test_a_night_in_the_shadow_has_steps_metrics_and_findings(nights):
    page = nights.client("analyst").get(f"/retrains/{SHADOWED}").text
    for said in ("Analysis", "archive_digest", "0d0d0d0d0d0d", "labels/train.parquet 2b2b2b2b2b2b",
                 "0.7123 (0.6923 … 0.7323)", "average precision is 0.712", "Not asked", 'href="/models/5"', "trainer-0",
                 "/tensorboard"):  # fmt: skip
        assert said in page, said
    assert "hx-get" not in page.split('id="night"')[1].split(">")[0], "what is final needs no refreshing"
    assert "Model card" not in page
    assert "Curves of this training" not in page


def test_a_refused_night_says_why_first(nights):
    page = nights.client("analyst").get(f"/retrains/{REFUSED}").text
    assert "Gate: 21 % of last night&#39;s labels changed" in page
    found = [page.index(f'data-check="{name}"') for name in ("labels_changed", "ap", "latency")]
    assert found == sorted(found)


def test_a_failed_night_says_where_and_a_running_one_refreshes_itself(nights):
    page = nights.client("analyst").get(f"/retrains/{FAILED}").text
    assert "Training: the loss is NaN after step 41" in page
    client = nights.client("analyst")
    part = client.get(f"/retrains/{RUNNING}/part").text
    assert f'hx-get="/retrains/{RUNNING}/part" hx-trigger="every 5s"' in part
    assert "<html" not in part
    assert "No sign of life" not in part
    with transaction(nights.engine) as session:
        silent = running(nights.now_us)
        silent.updated_at = nights.now_us - 3 * HOUR_US
        record(session, silent)
    assert "No sign of life for 3 hours" in client.get(f"/retrains/{RUNNING}").text


def test_pages_speak_chinese(nights):
    client = nights.client("analyst")
    page = client.get(f"/retrains/{REFUSED}", headers={"Accept-Language": "zh-CN"}).text
    for said in ("昨夜 21% 的标签发生变化", "门禁的结论", "未通过", "门禁: 昨夜 21% 的标签与前夜不同"):
        assert said in page, said


def test_without_nights_the_page_says_what_makes_one(empty_console):
    assert "No night so far" in empty_console.client("analyst").get("/retrains").text


def test_a_night_that_is_not_there_and_a_visitor_who_is_not_logged_in(console):
    assert console.client("analyst").get("/retrains/nothing").status_code == 404
    assert console.app.test_client().get("/retrains").status_code in {302, 401}


def test_a_night_leads_to_its_version_s_card_while_that_is_what_was_registered(nights):
    raw = b"<!doctype html><title>card</title><p>0.71"
    file = Path(nights.app.extensions[FOLDER]) / "5" / NAME
    file.parent.mkdir(parents=True)
    file.write_bytes(raw)
    with transaction(nights.engine) as session:
        found = models.model_version(session, 5)
        found.files = {**found.files, NAME: hashlib.sha256(raw).hexdigest()}
        flag_modified(found, "files")
    client = nights.client("analyst")
    assert 'href="/models/5/card"' in client.get(f"/retrains/{SHADOWED}").text
    file.write_bytes(raw + b"!")
    assert 'href="/models/5/card"' not in client.get(f"/retrains/{SHADOWED}").text


def test_tensorboard_is_linked_where_it_is(nights):
    assert board("", "a") == ""
    assert board("https://board.example/tb/", "2026-07-28-0a b") == (
        "https://board.example/tb/?runFilter=2026-07-28-0a%20b#timeseries"
    )
    nights.app.config["TENSORBOARD_URL"] = "https://board.example"
    page = nights.client("analyst").get(f"/retrains/{SHADOWED}").text
    assert f'href="https://board.example/?runFilter={SHADOWED}#timeseries"' in page


def test_figures_that_are_missing_or_plain_are_told_too(console):
    with console.app.test_request_context():
        found = compared_metrics({"candidate": {"zz": 0.5, "ap": None}, "champion": None})
        assert [(each.candidate, each.champion) for each in found] == [("–", "–"), ("0.5", "–")]
        told = facts_words({"rows": 1234567, "share": 0.12345, "ok": True, "day": "2026-07-01", "many": [1], "x": None})
        assert told == [("rows", "1,234,567"), ("share", "0.1235"), ("ok", "True"), ("day", "2026-07-01")]
