"""Who may see and do what, and what a hostile web cannot do."""

import re

import pytest
from flask import Flask

from app import access, create_app
from plumbline.errors import Unready
from plumbline.settings import Settings

ROLES = (None, "analyst", "supervisor", "engineer")

# path → statuses for nobody, analyst, supervisor, engineer
PAGES = {
    "/": (302, 200, 200, 200),
    "/alerts": (302, 200, 200, 200),
    "/alerts?outcome=review": (302, 200, 200, 200),
    "/alerts/1": (302, 200, 200, 200),
    "/transactions": (302, 200, 200, 200),
    "/transactions/tx-000000": (302, 200, 200, 200),
    "/overview/alerts": (302, 200, 200, 200),
    "/overview/audit": (302, 200, 200, 200),
    "/audits": (302, 200, 200, 200),
    "/warnings": (302, 200, 200, 200),
    "/recomputations/tx-000000": (302, 200, 200, 200),
    "/drift": (302, 200, 200, 200),
    "/drift/feature/channel": (302, 200, 200, 200),
    "/incidents": (302, 200, 200, 200),
    "/incidents/1": (302, 404, 404, 404),
    "/models": (302, 200, 200, 200),
    "/models/3": (302, 200, 200, 200),
    "/models/3/card": (302, 404, 404, 404),
    "/retrains": (302, 200, 200, 200),
    "/retrains/rows": (302, 200, 200, 200),
    "/retrains/no-such-night": (302, 404, 404, 404),
    "/retrains/no-such-night/part": (302, 404, 404, 404),
    "/pulse": (302, 200, 200, 200),
    "/profile": (302, 200, 200, 200),
    "/login": (200, 302, 302, 302),
    "/verify": (302, 200, 200, 200),
    "/healthz": (200, 200, 200, 200),
    "/readyz": (200, 200, 200, 200),
    "/static/console.css": (200, 200, 200, 200),
}


@pytest.mark.parametrize("column", range(len(ROLES)), ids=[role or "nobody" for role in ROLES])
def test_each_page_answers_each_role_as_listed(console, column):
    client = console.client(ROLES[column])
    found = {path: client.get(path).status_code for path in PAGES}
    assert found == {path: statuses[column] for path, statuses in PAGES.items()}


def test_every_route_is_in_the_matrix(console):
    posts = {"/models/requests/<int:number>/approve", "/incidents/<int:number>/acknowledge"} | {
        "/alerts/<int:alert_id>/verdict",
        "/audits/<any(audit, imbalance):kind>/<int:number>/acknowledge",
        "/profile/view",
        "/logout",
    }
    streams = {"/stream"}
    listed = {re.sub(r"\?.*", "", path) for path in PAGES}
    patterns = {
        "/alerts/1": "/alerts/<int:alert_id>",
        "/transactions/tx-000000": "/transactions/<path:transaction_id>",
        "/recomputations/tx-000000": "/recomputations/<path:transaction_id>",
        "/drift/feature/channel": "/drift/<kind>/<name>",
        "/models/3": "/models/<int:number>",
        "/retrains/no-such-night": "/retrains/<name>",
        "/retrains/no-such-night/part": "/retrains/<name>/part",
        "/models/3/card": "/models/<int:number>/card",
        "/incidents/1": "/incidents/<int:number>",
        "/static/console.css": "/static/<path:filename>",
    }
    assert {rule.rule for rule in console.app.url_map.iter_rules()} == (
        {patterns.get(path, path) for path in listed} | posts | streams
    )


def test_nobody_gets_the_stream_or_a_part_of_a_page(console):
    client = console.client()
    assert client.get("/stream").status_code == 302
    part = client.get("/overview/alerts", headers={"HX-Request": "true"})
    assert (part.status_code, part.headers["HX-Redirect"]) == (401, "/login")


@pytest.mark.parametrize(("role", "status"), [("analyst", 303), ("supervisor", 303), ("engineer", 403)])
def test_only_analysts_and_supervisors_give_verdicts(console, token_of, role, status):
    client = console.client(role)
    answer = client.post(
        "/alerts/1/verdict", data={"verdict": "fraud", "csrf_token": token_of(client.get("/profile").text)}
    )
    assert answer.status_code == status


def test_an_engineer_sees_an_alert_without_the_form(console):
    page = console.client("engineer").get("/alerts/1").text
    assert "data-verdict" not in page
    assert "analysts and supervisors give verdicts" in page


def test_somebody_without_a_role_sees_nothing(console):
    client = console.client("analyst")
    with console.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM user_roles")
    assert client.get("/alerts").status_code == 403


def test_a_disabled_person_is_out_at_once(console):
    client = console.client("analyst")
    with console.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE users SET active = 0")
    assert client.get("/alerts").status_code == 302


@pytest.mark.parametrize("path", ["/alerts/1/verdict", "/profile/view", "/logout", "/login"])
def test_no_change_without_a_csrf_token(console, path):
    client = console.client(None if path == "/login" else "analyst")
    assert client.post(path, data={"verdict": "fraud"}).status_code == 400


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_no_change_from_another_site_even_with_the_token(console, token_of, site):
    client = console.client("analyst")
    data = {"verdict": "fraud", "csrf_token": token_of(client.get("/profile").text)}
    answer = client.post("/alerts/1/verdict", data=data, headers={"Sec-Fetch-Site": site})
    assert answer.status_code == 403


def test_a_part_of_a_page_may_bring_its_token_in_a_header(console, token_of):
    client = console.client("analyst")
    token = token_of(client.get("/profile").text)
    answer = client.post("/profile/view", data={"theme": "dark"}, headers={"X-CSRFToken": token})
    assert answer.status_code == 303


@pytest.mark.parametrize("path", ["/alerts/1/verdict", "/profile/view", "/logout"])
def test_nothing_changes_by_get(console, path):
    assert console.client("analyst").get(path).status_code in {404, 405}


def test_a_wrong_password_and_an_unknown_name_read_the_same(console, log_in):
    client = console.client()
    wrong = log_in(client, "analyst@bank.example", "wrong password here").text
    unknown = log_in(client, "nobody@bank.example", "wrong password here").text
    assert (
        re.findall(r'class="problem"[^>]*>([^<]*)', wrong) == re.findall(r'class="problem"[^>]*>([^<]*)', unknown) != []
    )


def test_failed_log_ins_are_cut_off_and_name_the_cause(console, log_in):
    client = console.client()
    statuses = [log_in(client, "analyst@bank.example", "wrong password here").status_code for _ in range(12)]
    assert statuses[:10] == [200] * 10
    assert statuses[10:] == [429, 429]
    assert "Too many failed log-ins" in log_in(client, "analyst@bank.example").text


def test_successful_log_ins_are_not_counted(console):
    for _ in range(12):
        console.client("analyst")


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "/\tevil.example"]
)
def test_log_in_leads_nowhere_else(console, log_in, wanted):
    answer = log_in(console.client(), "analyst@bank.example", next=wanted)
    assert answer.headers.get("Location", "/").startswith("/")
    assert not answer.headers.get("Location", "/").startswith(("//", "/\\"))


def test_log_in_leads_back_to_the_page_that_was_asked_for(console, log_in):
    client = console.client()
    asked = client.get("/alerts?outcome=review").headers["Location"]
    page = client.get(asked).text
    wanted = re.findall(r'name="next" value="([^"]*)"', page)[-1]  # the first belongs to the language switch
    assert log_in(client, "analyst@bank.example", next=wanted).headers["Location"] == "/alerts?outcome=review"


def test_a_strangers_first_page_is_the_plain_form(console):
    assert 'class="notice' not in console.client().get("/", follow_redirects=True).text


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example/", "/\\evil.example", "evil", "/a\n/b", ""]
)
def test_the_language_switch_leads_nowhere_else(console, token_of, wanted):
    client = console.client()
    data = {"language": "en", "next": wanted, "csrf_token": token_of(client.get("/login").text)}
    assert client.post("/profile/view", data=data).headers["Location"] == "/"


def test_every_answer_carries_the_headers(console):
    client = console.client("analyst")
    for path in ("/", "/alerts", "/nothing-here", "/login", "/healthz", "/static/console.css"):
        headers = client.get(path).headers
        policy = headers["Content-Security-Policy"]
        for part in ("default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"):
            assert part in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert client.get("/alerts").headers["Cache-Control"] == "no-store"
    assert "no-store" not in client.get("/static/console.css").headers["Cache-Control"]


def test_over_https_cookies_are_bound_to_the_host_and_transport(console, settings):
    secure = Settings(https_only=True, secret_key=settings.secret_key, password_salt=settings.password_salt)
    answer = create_app(secure, console.engine).test_client().get("/login", base_url="https://console.example")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-plumbline=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; "))
    assert "max-age=31536000" in answer.headers["Strict-Transport-Security"]


def test_forwarding_headers_are_believed_only_from_a_declared_gateway(console, settings):
    forged = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
    for proxies, scheme in ((0, "http"), (1, "https")):
        app = create_app(
            Settings(
                https_only=False,
                trusted_proxies=proxies,
                secret_key=settings.secret_key,
                password_salt=settings.password_salt,
            ),
            console.engine,
        )
        assert seen_scheme(app, forged) == scheme


def seen_scheme(app: Flask, headers: dict[str, str]) -> str:
    """The scheme that a view would see."""
    seen = []

    @app.before_request
    def look() -> None:
        from flask import request

        seen.append(request.scheme)

    app.test_client().get("/healthz", headers=headers)
    return seen[0]


@pytest.mark.parametrize("missing", ["secret_key", "password_salt"])
def test_a_missing_secret_is_one_sentence_that_names_it(console, settings, missing):
    secrets = {"secret_key": settings.secret_key, "password_salt": settings.password_salt, missing: None}
    with pytest.raises(Unready, match=f"PLUMBLINE_{missing.upper()} is not set"):
        create_app(Settings(**secrets), console.engine)


def test_an_old_log_in_must_be_confirmed(console):
    client = console.client("analyst")
    with client.session_transaction() as session:
        session["fs_paa"] -= access.SHIFT.total_seconds() + 60
    answer = client.get("/alerts")
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/verify?next=")


def test_logging_out_ends_the_session(console, token_of):
    client = console.client("analyst")
    client.post("/logout", data={"csrf_token": token_of(client.get("/profile").text)})
    assert client.get("/alerts").status_code == 302


def test_another_address_cannot_use_a_stolen_cookie(console):
    client = console.client("analyst")
    assert client.get("/alerts", environ_overrides={"REMOTE_ADDR": "203.0.113.9"}).status_code == 302
