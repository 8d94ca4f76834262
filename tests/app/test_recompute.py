"""Asking for a recomputation, what the page says meanwhile, and what it shows of the answer; the light beside it."""

import time

import pytest
from sqlalchemy.orm import Session

from features.declaration import HISTORY_NAMES
from store import watch
from store.alerts import open_alerts
from store.audits import record_watched
from store.engine import transaction
from store.imbalances import record_imbalance

SECOND_US = 1_000_000


def field(layer, name, journaled, recomputed):
    values = {"journaled": journaled, "recomputed": recomputed, "equal": journaled == recomputed}
    return {"layer": layer, "name": name, **values}


def answer(*fields, raw=True):
    """A replay's answer as the watching process stores it."""
    return {
        "fields": list(fields), "raw": raw, "model_version": 3, "policy_version": "2026-08-standard",
        "fingerprint": "0123456789abcdef", "sequence": 7, "transaction_id": "x",
    }  # fmt: skip


SAME = [field("history", name, "0x0000000000000007 (7)", "0x0000000000000007 (7)") for name in HISTORY_NAMES[:3]]


@pytest.fixture
def first(console):
    """The costliest open alert: its id, and its transaction's."""
    with Session(console.engine) as session:
        alert = open_alerts(session, 1)[0]
        return alert.id, alert.transaction_id


@pytest.fixture
def watching(console):
    """A function that lets the watching process say something, so many seconds ago."""

    def say(seconds_ago=0.0, **counts):
        now_us = time.time_ns() // 1000 - int(seconds_ago * SECOND_US)
        with transaction(console.engine) as session:
            row = watch.begin_continuous_audit(session, 100, now_us)
            for name, value in counts.items():
                setattr(row, name, value)
            if counts.get("different"):
                record_watched(
                    session, first_sequence=1, last_sequence=2, compared=counts["compared"],
                    different=counts["different"], detail=counts["detail"], one_in=100, now_us=now_us,
                )  # fmt: skip

    return say


def ask(console, token_of, first, role="engineer"):
    client = console.client(role)
    page = client.get(f"/alerts/{first[0]}").text
    return client, client.post(f"/recomputations/{first[1]}", data={"csrf_token": token_of(page)})


def give(console, first, result, body):
    with transaction(console.engine) as session:
        number = watch.newest_recomputation(session, first[1]).id
        watch.answer_recomputation(session, number, result, body, time.time_ns() // 1000)


def test_whoever_may_look_may_ask_and_is_led_back(console, token_of, first):
    client, sent = ask(console, token_of, first)
    assert (sent.status_code, sent.location) == (303, f"/alerts/{first[0]}#recomputation")
    page = client.get(f"/alerts/{first[0]}").text
    assert "asked by engineer@bank.example" in page
    assert "No watching process is running. The request waits" in page
    assert ">Recompute<" not in page


def test_a_second_wish_does_not_double_the_first(console, token_of, first):
    ask(console, token_of, first)
    ask(console, token_of, first, "analyst")
    with Session(console.engine) as session:
        assert [each.asked_by for each in watch.waiting_recomputations(session)] == ["engineer@bank.example"]


def test_a_page_asks_again_while_it_waits_and_no_longer(console, token_of, first, watching):
    watching()
    client, _ = ask(console, token_of, first)
    part = client.get(f"/recomputations/{first[1]}").text
    assert 'hx-trigger="every 1s"' in part
    assert "The watching process is computing it" in part
    give(console, first, "equal", answer(*SAME))
    part = client.get(f"/recomputations/{first[1]}").text
    assert "hx-trigger" not in part
    assert "Equal: all 3 fields, bit for bit" in part
    assert ">Recompute<" in part


def test_what_differs_stands_first_in_words_and_bits(console, token_of, first):
    client, _ = ask(console, token_of, first)
    odd = field("history", "account_count_1d", "0x0000000000000004 (4)", "0x0000000000000003 (3)")
    give(console, first, "different", answer(*SAME, odd, raw=False))
    for language, words in (("en", "Different: 1 of 4 fields"), ("zh-CN", "不一致：4 个字段中有 1 个不同")):
        page = client.get(f"/alerts/{first[0]}", headers={"Accept-Language": language}).text
        assert words in page
        assert page.index("0x0000000000000003 (3)") < page.index("<summary>")
    assert "its parsed form in the journal was taken" in client.get(f"/alerts/{first[0]}").text


def test_what_failed_says_why(console, token_of, first):
    client, _ = ask(console, token_of, first)
    give(console, first, "failed", {"error": "model version 3 scored it, but its files are not there <here>"})
    page = client.get(f"/alerts/{first[0]}").text
    assert "It could not be computed again" in page
    assert "its files are not there &lt;here&gt;" in page


def test_nobody_asks_for_what_is_not_there_or_without_a_token(console, token_of, first):
    client, _ = ask(console, token_of, first)
    assert client.post(f"/recomputations/{first[1]}").status_code == 400
    token = token_of(client.get(f"/alerts/{first[0]}").text)
    assert client.post("/recomputations/nobody", data={"csrf_token": token}).status_code == 404
    assert console.client().post(f"/recomputations/{first[1]}").status_code == 400


def warnings_on(client, path="/"):
    return {part.split('"')[0] for part in client.get(path).text.split('data-warning="')[1:]}


def test_the_light_and_the_page_show_the_continuous_audit(console, watching):
    client = console.client("analyst")
    watching(compared=12_345, sequence=67_890, behind_ms=1500)
    page = client.get("/").text
    assert "all the time: 12,345 recomputed, 0 different, up to sequence 67,890, 1.5 s behind" in page
    assert 'class="figure light exact"' in page
    assert warnings_on(client) == set()
    watching(compared=12_345, different=2, unverified=3, detail=[{"layer": "score"}])
    assert 'class="figure light differs"' in client.get("/overview/audit").text
    page = client.get("/audits").text
    assert "One account in 100 is in the sample" in page
    assert "3 decisions of the sample could not be computed again" in page
    assert warnings_on(client, "/alerts") == {"watch_differs"}


def test_a_silent_process_is_told_and_one_that_never_was_is_not(console, watching):
    client = console.client("analyst")
    assert "Nothing watches yet" in client.get("/audits").text
    assert warnings_on(client) == set()
    watching(seconds_ago=300, compared=5)
    assert warnings_on(client) == {"watch_silent"}


@pytest.mark.parametrize(
    ("imbalance", "oldest_ms", "warned"),
    [(0, None, set()), (0, 60_000, set()), (0, 60_001, {"waiting_too_long"}), (2, None, {"imbalance"})],
)
def test_conservation_warns_of_what_is_lost_and_of_what_waits_too_long(console, imbalance, oldest_ms, warned):
    body = {
        "equations": [{"name": "acknowledged", "place": "transactions-0", "left": 10 + imbalance, "right": 10}],
        "acknowledged": 10 + imbalance, "waiting": 1, "waiting_limit_ms": 60_000,
    }  # fmt: skip
    with transaction(console.engine) as session:
        watch.record_balance(session, imbalance, oldest_ms, body, time.time_ns() // 1000)
        if imbalance:
            record_imbalance(session, imbalance, body["equations"], time.time_ns() // 1000)
    client = console.client("analyst")
    assert warnings_on(client) == warned
    page = client.get("/audits").text
    assert "every acknowledged message has an entry or is on its way" in page
    assert (f"Imbalance: {imbalance}" if imbalance else "Balanced") in page
