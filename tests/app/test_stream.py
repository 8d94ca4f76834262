"""The live stream: every alert is told once, a returning browser hears what it missed, and streams are capped."""

import json
import threading

import pytest
from sqlalchemy.orm import Session

from app import stream as stream_module
from app.news import Desk
from plumbline.errors import StoreUnavailable
from store.alerts import newest_alert_id
from store.overview import overview


def newest(console):
    with Session(console.engine) as session:
        return newest_alert_id(session)


def events(response):
    """Each event of a stream as (name, id, data); comments left out."""
    for block in response.response:
        text = block.decode() if isinstance(block, bytes) else block
        for part in filter(None, text.split("\n\n")):
            fields = dict(line.split(": ", 1) for line in part.splitlines() if not line.startswith(":"))
            if "event" in fields:
                yield fields["event"], fields.get("id"), json.loads(fields["data"])


def test_a_new_alert_is_told_with_its_id(console, insert_alert):
    client = console.client("analyst")
    before = newest(console)
    with client.get(f"/stream?after={before}") as response:
        assert response.mimetype == "text/event-stream"
        assert response.headers["X-Accel-Buffering"] == "no"
        told = events(response)
        threading.Timer(0.2, insert_alert).start()
        name, event_id, data = next(told)
    assert (name, event_id, data["new"]) == ("alert", str(before + 1), 1)


def test_a_returning_browser_hears_how_many_it_missed(console, insert_alert):
    client = console.client("analyst")
    before = newest(console)
    for number in range(3):
        insert_alert(f"tx-late-{number}")
    with client.get("/stream?after=1", headers={"Last-Event-ID": str(before)}) as response:
        name, event_id, data = next(events(response))
    assert (name, event_id, data) == ("alert", str(before + 3), {"new": 3})


@pytest.mark.parametrize("after", ["x", "-1", "9" * 40, ""])
def test_a_cursor_that_is_none_begins_with_the_newest(console, after):
    with console.client("analyst").get(f"/stream?figures=1&after={after}") as response:
        name, _, data = next(events(response))
    assert name == "figures"
    assert data["open"] > 0


def test_figures_come_only_where_they_are_asked_for(console, insert_alert):
    with console.client("analyst").get("/stream") as response:
        told = events(response)
        threading.Timer(1.5, insert_alert).start()
        assert next(told)[0] == "alert"


def test_a_stream_too_many_is_sent_to_polling(console, monkeypatch):
    desk = Desk(console.engine, 1, lambda: console.now_us)
    console.app.extensions["plumbline.desk"] = desk
    client = console.client("analyst")
    with client.get("/stream"):
        refused = client.get("/stream")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, str(stream_module.RETRY_SECONDS))
    with client.get("/stream") as again:
        assert again.status_code == 200
    desk.close()


def test_polling_tells_what_the_stream_would(console, insert_alert):
    client = console.client("analyst")
    before = newest(console)
    insert_alert()
    news = client.get(f"/pulse?after={before}").get_json()
    assert (news["new"], news["newest"]) == (1, before + 1)


def test_a_quiet_stream_beats_so_that_nobody_takes_it_for_dead(console, monkeypatch):
    monkeypatch.setattr(stream_module, "HEARTBEAT_SECONDS", 0.2)
    with console.client("analyst").get("/stream") as response:
        blocks = iter(response.response)
        next(blocks)
        assert b": beat" in bytes(next(blocks))


def test_closing_the_desk_ends_every_stream(console):
    with console.client("analyst").get("/stream") as response:
        blocks = iter(response.response)
        next(blocks)
        threading.Timer(0.2, console.app.extensions["plumbline.desk"].close).start()
        assert list(blocks) == []


def test_the_desk_rests_when_nobody_watches_and_looks_again_for_the_next(console):
    desk = Desk(console.engine, 5, lambda: console.now_us)
    for _ in range(2):
        assert desk.enter()
        assert desk.wait(0, 5) is not None
        desk.leave()
        looking = [thread for thread in threading.enumerate() if thread.name == "plumbline-news"]
        for thread in looking:
            thread.join(5)
            assert not thread.is_alive()


def test_a_lost_database_is_asked_again(console, monkeypatch):
    looks = iter([StoreUnavailable("gone")])

    def flaky(session, now_us):
        for error in looks:
            raise error
        return overview(session, now_us)

    monkeypatch.setattr("app.news.overview", flaky)
    desk = Desk(console.engine, 5, lambda: console.now_us)
    desk.enter()
    assert desk.wait(0, 5) is not None
    desk.leave()
    desk.close()
