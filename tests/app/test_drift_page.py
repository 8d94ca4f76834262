"""Drift and skew on one page, kept apart; its pictures; and the warning while the newest run is far off."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from app.bins import HEIGHT, WIDTH, Bin, bars, bins_of, most_moved
from features import declaration
from store.audits import record_audit, record_watched
from store.watch import begin_continuous_audit

SHARES = st.floats(0, 1)
NAMES = {each.name for each in declaration.FEATURES}


@given(st.lists(st.builds(Bin, st.just(""), SHARES, SHARES), min_size=1, max_size=24))
def test_a_picture_has_two_bars_a_bin_all_inside_and_as_high_as_their_shares(bins):
    drawn = bars(bins)
    highest = max(max(each.then, each.now) for each in bins)
    for each, bar in zip(bins, drawn, strict=True):
        assert 0 <= bar.then_x <= bar.now_x
        assert bar.now_x + bar.now_width <= bar.then_x + bar.then_width + 1e-9 <= WIDTH + 1e-9
        for share, top in ((each.then, bar.then_top), (each.now, bar.now_top)):
            assert -1e-9 <= top <= HEIGHT
            if highest:
                assert HEIGHT - top == pytest.approx(HEIGHT * share / highest)
    assert all(a.then_x + a.then_width <= b.then_x for a, b in itertools.pairwise(drawn))


def test_bins_have_words_and_the_one_that_moved_most_is_told(console):
    with console.app.test_request_context():
        numbers = bins_of("amount_log", {"edges": [-0.5, 1.25], "words": [], "then": [1, 4, 4, 1], "now": [0, 1, 1, 8]})
        assert [each.text for each in numbers] == ["missing", "up to −0.5", "−0.5 to 1.25", "above 1.25"]
        assert [each.then for each in numbers] == [0.1, 0.4, 0.4, 0.1]
        assert most_moved(numbers).text == "above 1.25"
        channels = {"edges": [1.0, 2.0], "words": ["ecom", "ATM?"], "then": [0, 1, 1, 0], "now": [0, 0, 0, 0]}
        assert [each.text for each in bins_of("channel", channels)] == [
            "missing", "Online", "ATM?", "all others that are known",
        ]  # fmt: skip
        assert [each.now for each in bins_of("channel", channels)] == [0.0] * 4
        single = {"edges": [], "words": [], "then": [0, 9], "now": [2, 7]}
        assert [each.text for each in bins_of("night", single)] == ["missing", "any value"]


def test_the_page_keeps_skew_and_drift_apart_and_sorts_by_index(console, drifted):
    drifted("alarm", "distance_km", "mcc")
    page = console.client("engineer").get("/drift").text
    skew, drift = page.split('id="drift-title"')
    assert "0 different" in skew
    assert "Far off" in drift
    assert "4,200 decisions of model version 3" in drift
    order = re.findall(r'data-figure-of="(\w+)/(\w+)"', page)
    assert order[0] == ("score", "score")
    assert {name for _, name in order[1:3]} == {"distance_km", "mcc"}
    assert {name for kind, name in order if kind == "feature"} == NAMES
    assert page.count('<svg class="bins') == len(NAMES) + 1
    assert page.count('role="img"') == len(NAMES) + 1
    with Session(console.engine) as session, session.begin():
        record_audit(
            session, started_at=1, finished_at=2, first_sequence=0, last_sequence=9, compared=10, different=0, detail=[]
        )
        found = begin_continuous_audit(session, 50, console.now_us)
        found.compared, found.different = 7777, 3
        record_watched(
            session, first_sequence=0, last_sequence=9, compared=10, different=3, detail=[], one_in=50,
            now_us=console.now_us,
        )  # fmt: skip
    skew = console.client("engineer").get("/drift").text.split('id="drift-title"')[0]
    assert '<p class="verdict-line light differs">' in skew
    assert "all the time: 7,777 recomputed, 3 different" in skew
    assert "10 recomputed, 0 different" in skew, "one that differs is enough"


def test_a_figure_tells_every_share_and_its_runs(console, drifted):
    client = console.client("analyst")
    before = drifted("warn", "amount_log")
    newest = drifted("calm", "nothing")
    page = client.get("/drift/feature/amount_log").text
    assert page.count('<th scope="row">') == 11
    assert "0.21" in page, "the runs before"
    assert f'href="/drift?run={newest}"' in page
    page = client.get(f"/drift/feature/amount_log?run={before}").text
    assert "Moved" in page.split("In the newest runs")[0]
    assert "the score" in client.get("/drift/score/score").text
    assert "渠道" in client.get("/drift/feature/channel", headers={"Accept-Language": "zh-CN"}).text


@pytest.mark.parametrize(
    "path",
    ["/drift/feature/nothing", "/drift/score/amount_log", "/drift?run=999", "/drift?run=x", "/drift?run=" + "9" * 30],
)
def test_what_is_not_there_is_not_found(console, path):
    assert console.client("analyst").get(path).status_code == 404


def test_before_the_first_run_it_says_what_to_do(empty_console):
    client = empty_console.client("analyst")
    assert "No drift run yet" in client.get("/drift").text
    assert client.get("/drift/score/score").status_code == 404


def test_a_run_that_is_far_off_warns_on_every_page_until_a_newer_one_is_not(console, drifted):
    client = console.client("analyst")
    assert "data-warning" not in client.get("/").text
    drifted("alarm", "distance_km", "mcc")
    for path in ("/", "/alerts", "/drift", "/nothing-here"):
        page = client.get(path).text
        assert page.count('data-warning="drift_alarm"') == 1
        assert "Drift: 2 figures are far from what model version 3 was trained on" in page
        assert "Caution" in page
    assert "漂移：2 项" in client.get("/", headers={"Accept-Language": "zh-CN"}).text
    drifted("warn", "mcc")
    assert "data-warning" not in client.get("/").text
