"""The queue, an alert in words, and the verdict that closes it."""

import re
import threading

import pytest
from sqlalchemy.orm import Session

from features import declaration
from plumbline.errors import AlertClosed
from store.alerts import alert, open_alerts
from store.labels import record_verdict, waiting_verdicts
from store.tables import Alert, Decision

HOSTILE = '"><script>alert(1)</script>'


def judge(client, token_of, alert_id, **fields):
    """Send the verdict form as its page holds it, with fields changed."""
    page = client.get(f"/alerts/{alert_id}").text
    label_id = re.search(r'name="label_id" value="([0-9a-f]+)"', page)
    data = {"verdict": "fraud", "note": "", "csrf_token": token_of(page), "label_id": label_id[1] if label_id else ""}
    return client.post(f"/alerts/{alert_id}/verdict", data=data | fields)


def queue(console, **arguments):
    with Session(console.engine) as session:
        return [found.id for found in open_alerts(session, 1000, **arguments)]


def links(page):
    return [int(found) for found in re.findall(r'class="open" href="/alerts/(\d+)"', page)]


def test_the_queue_shows_the_costliest_first_and_every_alert_once_page_by_page(console):
    client = console.client("analyst")
    seen, address = [], "/alerts"
    while address:
        page = client.get(address).text
        seen += links(page)
        following = re.search(r'href="(/alerts\?after=[^"]+)"', page)
        address = following[1] if following else None
    assert seen == queue(console)


def test_more_rows_come_without_the_page_around_them(console):
    client = console.client("analyst")
    following = re.search(r'hx-get="([^"]+)"', client.get("/alerts").text.split('id="alert-rows"')[1])[1]
    rows = client.get(following.replace("&amp;", "&")).text
    assert "<html" not in rows
    assert links(rows) == queue(console)[25 : 25 + len(links(rows))]


@pytest.mark.parametrize("outcome", ["review", "decline"])
def test_the_queue_of_one_outcome_holds_that_outcome_alone(console, outcome):
    page = console.client("analyst").get(f"/alerts?outcome={outcome}").text
    assert links(page) == queue(console, outcome=outcome)[:25]


@pytest.mark.parametrize(
    "address", ["/alerts?outcome=approve", "/alerts?after=x", "/alerts?after=1.2.3", "/alerts/99999"]
)
def test_what_does_not_exist_is_not_found(console, address):
    assert console.client("analyst").get(address).status_code == 404


@pytest.mark.parametrize("alert_id", [2**63, 10**30])
def test_a_number_beyond_every_alert_is_not_found(console, alert_id):
    assert console.client("analyst").get(f"/alerts/{alert_id}").status_code == 404


def test_an_empty_queue_says_that_all_is_done(empty_console):
    page = empty_console.client("analyst").get("/alerts").text
    assert "All done: no alert is open" in page


def test_reasons_are_said_in_the_features_own_words_in_both_languages(console):
    client = console.client("analyst")
    feature = next(each for each in declaration.FEATURES if each.name == "amount_to_mean_30d")
    address = f"/alerts/{queue(console)[0]}"
    assert feature.reason_en.replace("'", "&#39;") in client.get(address).text
    client.set_cookie("plumbline-language", "zh_Hans_CN")
    page = client.get(address).text
    assert feature.reason_zh in page
    assert 'lang="zh-Hans"' in page
    assert feature.name not in page


def test_an_alert_whose_explanation_did_not_come_says_so_in_both_languages(console):
    client, address = console.client("analyst"), f"/alerts/{queue(console)[0]}"
    with Session(console.engine) as session, session.begin():
        decided = session.get(Decision, alert(session, queue(console)[0]).transaction_id)
        decided.reasons = [{"kind": "fault", "code": "not_explained"}]
    assert "The model gave a score, but no explanation of it came." in client.get(address).text
    client.set_cookie("plumbline-language", "zh_Hans_CN")
    assert "模型已给出评分，但未能取得解释。" in client.get(address).text


def test_the_two_halves_of_the_hour_are_told_as_one_reason(console):
    page = console.client("analyst").get(f"/alerts/{queue(console)[0]}").text
    assert page.count("the hour of the day") == 1
    assert "+</span>0.38" in page or "+0.38" in page


def test_history_is_shown_for_every_measure_with_its_unit(console):
    page = console.client("analyst").get(f"/alerts/{queue(console)[0]}").text.replace("&#39;", "'")
    for measure in declaration.HISTORY:
        if measure.kind == "squares":
            continue  # half of a standard deviation: nothing that a person reads
        words = measure.text_en.partition(" in the last")[0] if measure.window else measure.text_en
        assert words in page, measure.name
    assert "the last 10 minutes" in page


def test_a_decision_of_another_declaration_shows_its_integers_as_recorded(console):
    first = queue(console)[0]
    with Session(console.engine) as session, session.begin():
        decided = session.get(Decision, alert(session, first).transaction_id)
        decided.fingerprint, decided.history = "0123456789abcdef", [11, 22, 33]
    page = console.client("analyst").get(f"/alerts/{first}").text
    assert "feature declaration 0123456789abcdef" in page
    assert "11, 22, 33" in page


def test_an_auditor_finds_sequence_source_model_and_policy(console):
    with Session(console.engine) as session:
        found = session.get(Decision, session.get(Alert, queue(console)[0]).transaction_id)
    page = console.client("engineer").get(f"/transactions/{found.transaction_id}", follow_redirects=True).text
    assert f"partition 0, offset {found.source_offset}" in page
    for shown in (found.sequence, found.model_version, found.policy_version, found.fingerprint):
        assert f">{shown}</dd>" in page


def test_a_verdict_closes_the_alert_waits_for_the_labels_topic_and_leads_to_the_next(console, token_of):
    client, (first, second, *_) = console.client("analyst"), queue(console)
    answer = judge(client, token_of, first, verdict="genuine", note="  Called the customer.\r\nAll well. ")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/alerts/{second}")
    with Session(console.engine) as session:
        closed, (waiting,) = alert(session, first), waiting_verdicts(session)
    assert (closed.status, closed.closed_by) == ("closed", "analyst@bank.example")
    assert (waiting.verdict, waiting.note, waiting.by) == (
        "genuine",
        "Called the customer.\nAll well.",
        "analyst@bank.example",
    )
    assert "Recorded for" in client.get(f"/alerts/{second}").text
    page = client.get(f"/alerts/{first}").text
    assert "on its way to the journal" in page
    assert "data-verdict" not in page


def test_after_the_last_alert_comes_the_empty_queue(console, token_of):
    client, (first, *others) = console.client("analyst"), queue(console)
    with console.engine.begin() as connection:
        for other in others:
            connection.exec_driver_sql(
                "UPDATE alerts SET status = 'closed', closed_by = 'x', closed_at = 1 WHERE id = ?", (other,)
            )
    answer = judge(client, token_of, first)
    assert answer.headers["Location"] == "/alerts"
    assert "All done" in client.get("/alerts").text


def test_whoever_comes_second_learns_who_was_first_and_keeps_the_note(console, token_of):
    analyst, supervisor, first = console.client("analyst"), console.client("supervisor"), queue(console)[0]
    token = token_of(supervisor.get(f"/alerts/{first}").text)
    judge(analyst, token_of, first)
    late = supervisor.post(
        f"/alerts/{first}/verdict", data={"verdict": "genuine", "note": "A long thought.", "csrf_token": token}
    )
    assert late.status_code == 409
    assert "analyst@bank.example was first" in late.text
    assert "A long thought." in late.text
    with Session(console.engine) as session:
        assert [each.verdict for each in waiting_verdicts(session)] == ["fraud"]


def test_the_same_form_sent_twice_is_one_verdict(console, token_of):
    client, first = console.client("analyst"), queue(console)[0]
    page = client.get(f"/alerts/{first}").text
    label_id = re.search(r'name="label_id" value="([0-9a-f]+)"', page)[1]
    data = {"verdict": "unsure", "note": "", "csrf_token": token_of(page), "label_id": label_id}
    statuses = [client.post(f"/alerts/{first}/verdict", data=data).status_code for _ in range(2)]
    assert statuses == [303, 303]
    with Session(console.engine) as session:
        assert [each.label_id for each in waiting_verdicts(session)] == [label_id]


def test_of_many_at_once_exactly_one_verdict_counts(console):
    first, results = queue(console)[0], []
    ready = threading.Barrier(6)

    def race(number):
        ready.wait()
        try:
            with Session(console.engine) as session, session.begin():
                record_verdict(
                    session,
                    first,
                    "fraud",
                    "",
                    by=f"analyst-{number}",
                    now_us=console.now_us,
                    label_id=f"{number:032x}",
                )
            results.append("recorded")
        except AlertClosed:
            results.append("closed")

    racers = [threading.Thread(target=race, args=(number,)) for number in range(6)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(results) == ["closed"] * 5 + ["recorded"]


@pytest.mark.parametrize(
    ("fields", "said"), [({"verdict": ""}, "Choose fraud"), ({"verdict": "maybe"}, "Choose fraud")]
)
def test_no_verdict_is_asked_for_again_and_the_note_stays(console, token_of, fields, said):
    client, first = console.client("analyst"), queue(console)[0]
    answer = judge(client, token_of, first, note="Half a thought", **fields)
    assert answer.status_code == 422
    assert said in answer.text
    assert "Half a thought" in answer.text
    assert first in queue(console)


def test_a_note_that_is_too_long_is_refused_with_its_length(console, token_of):
    client, first = console.client("analyst"), queue(console)[0]
    answer = judge(client, token_of, first, note="x" * 2001)
    assert answer.status_code == 422
    assert "The note has 2001 characters" in answer.text


def test_a_note_of_the_full_length_counts_a_line_end_once(console, token_of):
    client, first = console.client("analyst"), queue(console)[0]
    assert judge(client, token_of, first, note="x" * 1000 + "\r\n" + "y" * 999).status_code == 303


def test_a_body_beyond_all_measure_is_refused(console, token_of):
    client, first = console.client("analyst"), queue(console)[0]
    assert judge(client, token_of, first, note="x" * 100_000).status_code == 413


def test_hostile_ids_and_notes_are_shown_as_text(console, insert_alert, token_of):
    insert_alert(HOSTILE, account_id=HOSTILE, merchant_id=HOSTILE, device_id=HOSTILE)
    client, first = console.client("analyst"), queue(console)[0]
    judge(client, token_of, first, note=HOSTILE)
    for address in ("/", "/alerts", f"/alerts/{first}", "/transactions", f"/transactions?q={HOSTILE}"):
        page = client.get(address, follow_redirects=True).text
        assert "<script>alert" not in page, address
    assert "&lt;script&gt;" in page


def test_an_address_says_how_many_rows_are_shown(console):
    client = console.client("analyst")
    first = client.get("/alerts").text
    assert first.count('class="open"') == 25
    assert 'data-address="/alerts?pages=2"' in first
    again = client.get("/alerts?pages=2").text
    assert again.count('class="open"') > 25
    assert again.startswith("<!doctype html>")
    for pages in ("0", "41", "x", "9" * 30, "-1"):
        assert client.get(f"/alerts?pages={pages}").status_code == 404


def test_the_alerted_payment_is_in_its_table_however_many_are_newer(console):
    with Session(console.engine) as session:
        for alert in open_alerts(session, 40):
            page = console_page(console, f"/alerts/{alert.id}")
            table = page.split('id="life-title"')[1]
            assert table.count("aria-current") == 1, alert.transaction_id


def console_page(console, path):
    return console.client("analyst").get(path).text


def test_the_tab_and_the_filters_show_one_count(console):
    client = console.client("analyst")
    page = client.get("/alerts").text
    counts = {"": int(re.search(r'data-figure="open"[^>]*>([0-9]+)<', page)[1])}
    counts |= {name: int(count) for name, count in re.findall(r'data-open-outcome="([a-z]+)">([0-9]+)<', page)}
    news = client.get("/pulse").get_json()
    assert news["open"] == counts.pop("") == sum(news["open_outcomes"].values())
    assert counts == {name: news["open_outcomes"].get(name, 0) for name in counts}
