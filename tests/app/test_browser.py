"""The console in a real browser: live queue, a shift by keyboard alone, accessibility, a phone's width."""

import re
import shutil
import threading
import time
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from sqlalchemy.orm import Session
from werkzeug.serving import make_server

from store import watch
from store.alerts import alert, open_alerts
from store.engine import transaction
from store.retrains import record
from tests.app.guarded import store_canaries
from tests.app.nights import REFUSED, RUNNING, SHADOWED, running, store_nights

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PASSWORD = "correct horse battery staple"
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--no-first-run",
]  # fmt: skip
# what takes a moment may take longer on a machine that runs many things at once
expect.set_options(timeout=20_000)
LANGUAGES = {"en": "en-GB", "zh": "zh-CN"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, once for all tests here."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def address(console) -> Iterator[str]:
    """The console on a port of its own, in threads, since streams hold theirs."""
    server = make_server("127.0.0.1", 0, console.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    console.app.extensions["plumbline.desk"].close()
    server.shutdown()
    thread.join(10)


@pytest.fixture
def troubles() -> list[str]:
    """What the browser complained of: errors of scripts, of the content policy, of missing files."""
    return []


def opened(
    browser: Browser, address: str, troubles: list[str], who: str = "analyst@bank.example", **options
) -> tuple[BrowserContext, Page]:
    """A fresh browser window, logged in through the form."""
    context = browser.new_context(base_url=address, **({"locale": "en-GB"} | options))
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.on("console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto("/login")
    page.fill("#email", who)
    page.fill("#password", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/$"))
    return context, page


def arrive(page: Page, pattern: str) -> None:
    """Wait until a page is there and drawn: Chromium ignores keys before a page's first frame."""
    page.wait_for_url(pattern)
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")


def test_a_new_alert_is_announced_and_the_list_stays_still_until_asked(
    browser, address, console, insert_alert, troubles
):
    context, page = opened(browser, address, troubles)
    page.goto("/alerts")
    expect(page.locator('.live[data-state="on"]')).to_be_visible()
    first = page.locator("a.open").first
    before = first.inner_text()
    insert_alert()
    expect(page.locator("[data-news]")).to_contain_text("1 new alert")
    insert_alert("tx-late-2")
    expect(page.locator("[data-news]")).to_contain_text("2 new alerts")
    assert first.inner_text() == before
    page.locator("[data-news] a").click()
    expect(page.locator("a.open").first).to_contain_text("€96,999.99")
    assert troubles == []
    context.close()


def test_the_overview_moves_by_itself(browser, address, console, insert_alert, troubles):
    context, page = opened(browser, address, troubles)
    expect(page.locator('.live[data-state="on"]')).to_be_visible()
    expect(page.locator("#rate canvas")).to_be_visible()
    open_before = int(page.locator(".tile [data-figure=open]").inner_text())
    insert_alert()
    expect(page.locator(".tile [data-figure=open]")).to_have_text(str(open_before + 1))
    expect(page.locator("#top-alerts a.open").first).to_contain_text("€96,999.99")
    assert troubles == []
    context.close()


def test_without_a_stream_the_page_asks_from_time_to_time(browser, address, console, insert_alert, troubles):
    context, page = opened(browser, address, troubles)
    page.route("**/stream?*", lambda route: route.fulfill(status=503, body=""))
    page.add_init_script(
        "{ const real = setInterval; window.setInterval = (work, ms) => real(work, Math.min(ms, 500)); }"
    )
    page.goto("/alerts")
    expect(page.locator('.live[data-state="polling"]')).to_be_visible()
    insert_alert()
    expect(page.locator("[data-news]")).to_contain_text("1 new alert")
    assert [trouble for trouble in troubles if "503" not in trouble] == []
    context.close()


def test_an_alert_is_judged_by_three_keys_and_the_next_one_opens(browser, address, console, troubles):
    with Session(console.engine) as session:
        queue = [found.id for found in open_alerts(session, 3)]
    context, page = opened(browser, address, troubles)
    arrive(page, "**/")
    page.keyboard.press("g")
    page.keyboard.press("q")
    arrive(page, "**/alerts")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    arrive(page, f"**/alerts/{queue[0]}")
    for number, (key, said) in enumerate((("f", "fraud"), ("g", "genuine"))):
        page.keyboard.press(key)
        expect(page.locator(f"input[value={said}]")).to_be_checked()
        page.keyboard.press("Enter")
        arrive(page, f"**/alerts/{queue[number + 1]}")
    page.keyboard.press("g")
    page.keyboard.press("q")
    arrive(page, "**/alerts")
    with Session(console.engine) as session:
        assert [alert(session, each).status for each in queue] == ["closed", "closed", "open"]
    assert troubles == []
    context.close()


def test_keys_are_off_while_a_note_is_typed(browser, address, console, troubles):
    with Session(console.engine) as session:
        first = open_alerts(session, 1)[0].id
    context, page = opened(browser, address, troubles)
    page.goto(f"/alerts/{first}")
    arrive(page, f"**/alerts/{first}")
    page.keyboard.press("n")
    page.keyboard.type("found g q u f j/")
    assert page.locator("#note").input_value() == "found g q u f j/"
    assert page.locator("input[name=verdict]:checked").count() == 0
    assert page.url.endswith(f"/alerts/{first}")
    assert troubles == []
    context.close()


def test_more_rows_join_the_list(browser, address, troubles):
    context, page = opened(browser, address, troubles)
    page.goto("/alerts")
    before = page.locator("a.open").count()
    page.get_by_text("More alerts").click()
    expect(page.locator("a.open").nth(before)).to_be_visible()
    shown = page.locator("a.open").count()
    place = page.locator("a.open").nth(before + 3)
    address_of_it = place.get_attribute("href")
    place.click()
    page.wait_for_url(f"**{address_of_it}")
    page.go_back()
    expect(page.locator("a.open")).to_have_count(shown)
    expect(page.locator(f'a.open[href="{address_of_it}"]')).to_be_in_viewport()
    assert troubles == []
    context.close()


def test_theme_and_language_switch_in_the_page_and_last(browser, address, troubles):
    context, page = opened(browser, address, troubles, color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.locator("[data-theme-switch]").click()
    expect(page.locator("html[data-theme=dark]")).to_have_count(1)
    assert page.evaluate(background) != light
    page.get_by_role("button", name="中文").click()
    expect(page.locator("h1")).to_have_text("总览")
    page.goto("/alerts")
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert troubles == []
    context.close()


def every_page(console) -> list[str]:
    """One address of each kind of page."""
    with Session(console.engine) as session:
        first = open_alerts(session, 1)[0].id
    broken = store_canaries(console.engine)
    store_nights(console.engine, console.now_us)
    return [
        "/",
        "/alerts",
        f"/alerts/{first}",
        "/transactions",
        "/transactions/tx-000003",
        "/audits",
        "/drift",
        "/drift/feature/channel",
        "/models",
        "/models/3",
        "/incidents",
        f"/incidents/{broken}",
        "/retrains",
        *(f"/retrains/{run}" for run in (SHADOWED, REFUSED, RUNNING)),
        "/profile",
        "/nothing-here",
    ]


# Names are a matter of language and contrast one of theme, so each of both is looked at once.
@pytest.mark.parametrize(("language", "theme"), [("en", "light"), ("zh", "dark")])
def test_no_page_has_a_serious_fault_of_accessibility(browser, address, console, troubles, language, theme):
    context, page = opened(browser, address, troubles, locale=LANGUAGES[language], color_scheme=theme)
    found = {}
    for path in every_page(console):
        page.goto(path)
        found[path] = serious(page)
    context.clear_cookies()
    page.goto("/login")
    found["/login"] = serious(page)
    assert {path: faults for path, faults in found.items() if faults} == {}
    # the page that is not there is meant not to be
    assert [trouble for trouble in troubles if "404" not in trouble] == []
    context.close()


def serious(page: Page) -> list[str]:
    """axe's serious and critical findings: rule, and the elements concerned."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {[node['target'] for node in each['nodes']][:3]}"
        for each in violations
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_on_a_phone_nothing_is_wider_than_the_screen(browser, address, console, troubles, language):
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    context, page = opened(browser, address, troubles, locale=LANGUAGES[language], **phone)
    for path in every_page(console):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
    context.close()


def test_on_a_phone_the_verdict_comes_before_the_long_history(browser, address, console, troubles):
    phone = {"viewport": {"width": 390, "height": 844}, "is_mobile": True}
    context, page = opened(browser, address, troubles, **phone)
    page.goto(every_page(console)[2])
    tops = [page.locator(f".{name}-card").bounding_box()["y"] for name in ("why", "verdict", "life", "past")]
    assert tops == sorted(tops)
    assert troubles == []
    context.close()


def test_the_content_policy_stops_a_script_that_gets_into_a_page(browser, address, console):
    troubles: list[str] = []
    context, page = opened(browser, address, troubles)
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.hit = 1'}))")
    assert page.evaluate("window.hit") is None
    assert any(re.search("Content Security Policy", trouble) for trouble in troubles)
    context.close()


def test_a_decision_is_computed_again_at_the_press_of_a_button(browser, address, console, troubles):
    """The watching process is played by the test: it is alive, and then it answers."""
    with Session(console.engine) as session:
        first = open_alerts(session, 1)[0]
    context, page = opened(browser, address, troubles)
    page.goto(f"/alerts/{first.id}")
    card = page.locator("#recomputation")
    card.get_by_role("button", name="Recompute").click()
    expect(card).to_contain_text("No watching process is running")
    assert page.url.endswith(f"/alerts/{first.id}")
    with transaction(console.engine) as session:
        watch.begin_continuous_audit(session, 100, time.time_ns() // 1000 + 60_000_000)
    expect(card).to_contain_text("The watching process is computing it")
    same = {"layer": "outcome", "name": "outcome", "journaled": "review", "recomputed": "review", "equal": True}
    odd = {"layer": "history", "name": "account_count_1d", "journaled": "0x4 (4)", "recomputed": "0x3 (3)"}
    body = {"model_version": 3, "policy_version": "p", "fingerprint": "f", "raw": True}
    with transaction(console.engine) as session:
        number = watch.newest_recomputation(session, first.transaction_id).id
        fields = [same, odd | {"equal": False}]
        watch.answer_recomputation(session, number, "different", body | {"fields": fields}, time.time_ns() // 1000)
    expect(card).to_contain_text("Different: 1 of 2 fields")
    expect(card.get_by_text("0x3 (3)").first).to_be_visible()
    expect(card.get_by_text("review").first).not_to_be_visible()
    card.get_by_text("Every field").click()
    expect(card.get_by_text("review").first).to_be_visible()
    assert serious(page) == []
    card.get_by_role("button", name="Recompute").click()
    expect(card).to_contain_text("The watching process is computing it")
    assert troubles == []
    context.close()


def test_an_incident_is_acknowledged_and_its_warning_goes(browser, address, console, troubles):
    broken = store_canaries(console.engine)
    context, page = opened(browser, address, troubles, who="engineer@bank.example")
    expect(page.locator("[data-warning=incident_open]")).to_contain_text("Version 4 broke a guardrail")
    page.locator("[data-warning=incident_open] a").click()
    arrive(page, f"**/incidents/{broken}")
    expect(page.locator("polyline.mine")).to_be_attached()
    page.fill("#note", "a new scaling was missing")
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_text("Acknowledged by engineer@bank.example")).to_be_visible()
    expect(page.locator("[data-warning=incident_open]")).to_have_count(0)
    page.get_by_role("link", name="Guard", exact=True).click()
    expect(page.locator("[data-trial='4'] [data-rule=scores]")).to_be_visible()
    assert troubles == []
    context.close()


def test_a_second_person_allows_a_release_at_the_press_of_a_button(browser, address, console, troubles):
    context, page = opened(browser, address, troubles, who="supervisor@bank.example")
    page.goto("/models")
    page.get_by_role("button", name="Allow request 1").click()
    expect(page.locator(".notice.good")).to_contain_text("Request 1 is allowed")
    expect(page.locator("[data-request='1']")).to_contain_text("waits to be carried out")
    page.locator("tr[data-version='5'] a.open").click()
    expect(page.locator("h1")).to_have_text("Model version 5")
    assert troubles == []
    context.close()


def test_a_night_at_work_refreshes_itself_until_it_is_done(browser, address, console, troubles):
    store_nights(console.engine, console.now_us)
    context, page = opened(browser, address, troubles)
    page.goto("/models")
    page.get_by_role("link", name="Nightly retrains").click()
    page.locator(f"[data-run='{RUNNING}'] a.open").click()
    arrive(page, f"**/retrains/{RUNNING}")
    expect(page.locator("[data-step=gate]")).to_contain_text("Waiting")
    with transaction(console.engine) as session:
        record(session, running(console.now_us, step="register"))
    expect(page.locator("[data-step=gate]")).to_contain_text("Done")
    with transaction(console.engine) as session:
        done = running(console.now_us, step="register")
        done.verdict, done.step, done.version = "registered", "", 5
        record(session, done)
    expect(page.locator("#night")).to_have_attribute("data-verdict", "registered")
    expect(page.locator("#night")).not_to_have_attribute("hx-get", re.compile("."))
    page.locator("[data-step=rows] summary").click()
    expect(page.get_by_text("labels/train.parquet")).to_be_visible()
    assert serious(page) == []
    assert troubles == []
    context.close()
