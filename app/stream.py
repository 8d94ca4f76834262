"""Server-sent events: new alerts as they open, and the overview's figures each second.

An `alert` event carries the newest alert's id as its event id; a browser that comes back sends it as `Last-Event-ID`
and hears how many it missed. Each stream holds a thread, so their number is capped: beyond it the answer is 503 and
the page asks `/pulse` from time to time instead.
"""

import json
import time
from collections.abc import Iterator
from typing import Any, Final

from flask import Blueprint, Response, current_app, request
from flask.typing import ResponseReturnValue

from app.addresses import whole_number
from app.database import store
from app.news import Desk, now_us, pulse
from store.alerts import alerts_after, newest_alert_id
from store.overview import Overview, overview

blueprint = Blueprint("stream", __name__)

STREAMS_MAX: Final = 48
HEARTBEAT_SECONDS: Final = 15.0
MISSED_MAX: Final = 1000
RETRY_SECONDS: Final = 20


@blueprint.get("/stream")
def stream() -> ResponseReturnValue:
    """The event stream; `after` (or the header Last-Event-ID) is the newest alert the page knows of.

    `figures=1` adds the overview's figures.
    """
    desk: Desk = current_app.extensions["plumbline.desk"]
    cursor = _cursor()
    newest = newest_alert_id(store())
    missed = len(alerts_after(store(), cursor, MISSED_MAX)) if cursor < newest else 0
    if not desk.enter():
        return "", 503, {"Retry-After": str(RETRY_SECONDS)}
    events = _events(desk, max(cursor, 0), newest, missed, request.args.get("figures") == "1")
    response = Response(events, mimetype="text/event-stream")
    # called by the server when the response ends in any way, also before its first byte
    response.call_on_close(desk.leave)
    response.headers["X-Accel-Buffering"] = "no"
    return response


@blueprint.get("/pulse")
def poll() -> ResponseReturnValue:
    """The same news for a page without a stream: figures, and how many alerts opened after `after`."""
    found = overview(store(), now_us())
    missed = len(alerts_after(store(), _cursor(), MISSED_MAX))
    return {**pulse(found), "new": missed, "newest": found.newest_alert_id}


def _cursor() -> int:
    """The newest alert that the asking page knows of; the newest there is where it does not say."""
    for given in (request.headers.get("Last-Event-ID", ""), request.args.get("after", "")):
        number = whole_number(given)
        if number is not None:
            return number
    return newest_alert_id(store())


def _events(desk: Desk, cursor: int, newest: int, missed: int, figures: bool) -> Iterator[str]:
    yield f"retry: 2000\n{_comment()}"
    if missed:
        yield _event("alert", {"new": missed}, newest)
    known, tick, spoke = max(cursor, newest), 0, time.monotonic()
    while not desk.closed:
        events = []
        news = desk.wait(tick, HEARTBEAT_SECONDS)
        if news is not None:
            tick = news.tick
            if news.overview.newest_alert_id > known:
                opened = news.overview.newest_alert_id - known
                known = news.overview.newest_alert_id
                events.append(_event("alert", {"new": opened, **open_counts(news.overview)}, known))
            if figures:
                events.append(_event("figures", pulse(news.overview)))
        if not events and time.monotonic() - spoke >= HEARTBEAT_SECONDS:
            # also how a stream learns that its browser has gone
            events.append(_comment())
        if events:
            yield "".join(events)
            spoke = time.monotonic()


def open_counts(found: Overview) -> dict[str, Any]:
    """How many alerts are open, in all and by outcome: one count for the tab and for the queue's filters."""
    return {"open": found.open_alerts, "open_outcomes": found.open_outcomes}


def _event(name: str, data: dict[str, Any], event_id: int | None = None) -> str:
    head = f"id: {event_id}\n" if event_id is not None else ""
    return f"{head}event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


def _comment() -> str:
    return ": beat\n\n"
