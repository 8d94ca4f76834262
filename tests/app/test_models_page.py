"""The registry's pages: what they say, and who may allow what."""

import hashlib

import pytest
from sqlalchemy.orm import Session

from store import models
from store.engine import transaction
from tests.app.registered import ENGINEER, SUPERVISOR, ask


def test_versions_requests_and_what_is_in_force_stand_on_the_page(console):
    page = console.client("supervisor").get("/models").text
    for said in ("Version 5 becomes: Shadow", "a window of 90 days", ENGINEER, "Version 3 decides", "Canary 1%",
                 "precision held for a week", "errors 4 %", "Allow request 1"):  # fmt: skip
        assert said in page, said
    assert "The registry wishes something else" not in page
    with transaction(console.engine) as session:
        models.model_version(session, 4).stage = "shadow"
    assert "The registry wishes something else" in console.client("analyst").get("/models").text


def test_a_versions_page_has_its_facts_gates_files_and_history(console):
    page = console.client("analyst").get("/models/3").text
    for said in ("10,000 rows compared, 0 scores and 0 feature values different", "1,204,331", "c0ffee", "0.71234",
                 "channel=ecom", "03" * 32, f"allowed by {SUPERVISOR}", "Canary → Champion"):  # fmt: skip
        assert said in page, said
    assert console.client("analyst").get("/models/99").status_code == 404


@pytest.mark.parametrize(("role", "status"), [("analyst", 403), ("supervisor", 303), ("engineer", 303)])
def test_a_second_person_with_the_role_allows_and_nobody_else(console, token_of, role, status):
    client = console.client(role)
    token = token_of(client.get("/profile").text)
    answer = client.post("/models/requests/1/approve", data={"csrf_token": token})
    assert answer.status_code == status
    with Session(console.engine) as session:
        request = models.model_request(session, 1)
        allowed = (models.APPROVED, SUPERVISOR) if role == "supervisor" else (models.WAITING, None)
        assert (request.state, request.approved_by) == allowed
    page = client.get("/models").text
    assert ("a second person must allow it" in page) == (role == "engineer")
    assert ("Engineers and supervisors may allow it" in page) == (role == "analyst")
    assert ("waits to be carried out" in page) == (role == "supervisor")
    assert client.post("/models/requests/77/approve", data={"csrf_token": token}).status_code in {403, 404}


def test_a_request_that_is_too_old_or_gone_says_so(console, token_of):
    client = console.client("supervisor")
    token = token_of(client.get("/profile").text)
    with transaction(console.engine) as session:
        models.model_request(session, 1).expires_at = 1
    client.post("/models/requests/1/approve", data={"csrf_token": token})
    assert "is too old: ask again" in client.get("/models").text
    with transaction(console.engine) as session:
        number = ask(session, console.now_us).id
        models.withdraw(session, number, by=ENGINEER, now_us=console.now_us)
    client.post(f"/models/requests/{number}/approve", data={"csrf_token": token})
    assert "does not wait any more" in client.get("/models").text


def test_an_empty_registry_says_how_to_fill_it(empty_console):
    page = empty_console.client("engineer").get("/models").text
    assert "No version is registered" in page
    assert "the newest version that is served decides" in page


def test_a_card_is_shown_closed_off_and_only_while_it_is_the_registered_file(console, settings):
    page, client = b"<!doctype html><title>card</title>", console.client("analyst")
    file = settings.models_path / "3" / "assets.extra" / "card.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(page)
    assert client.get("/models/3/card").status_code == 404, "its digest is not among those that were registered"
    assert "/models/3/card" not in client.get("/models/3").text
    with transaction(console.engine) as session:
        version = models.model_version(session, 3)
        version.files = {**version.files, "assets.extra/card.html": hashlib.sha256(page).hexdigest()}
    answer = client.get("/models/3/card")
    assert (answer.data, answer.mimetype) == (page, "text/html")
    policy = answer.headers["Content-Security-Policy"]
    assert "sandbox" in policy
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert not [name for name, _ in answer.headers if name.startswith("X-Plumbline")]
    assert "default-src 'self'" in client.get("/models/3").headers["Content-Security-Policy"]
    assert 'href="/models/3/card"' in client.get("/models/3").text
    file.write_bytes(page + b"<script>1</script>")
    assert client.get("/models/3/card").status_code == 404
    assert client.get("/models/99/card").status_code == 404


def test_what_the_quality_gate_found_stands_on_the_page_the_refusals_first(console):
    def check(passed, words, judged=True):
        return {"name": "ap", "passed": passed, "judged": judged, "words": words, "words_zh": f"中 {words}"}

    with transaction(console.engine) as session:
        models.model_version(session, 3).gate = {
            "verdict": "refused",
            "checks": [check(True, "good"), check(False, "lost 0.04"), check(True, "nobody asked", judged=False)],
        }
    page = console.client("analyst").get("/models/3").text
    assert page.index("lost 0.04") < page.index("good")
    assert "nobody asked" not in page
    client = console.client("analyst")
    assert "中 lost 0.04" in client.get("/models/3", headers={"Accept-Language": "zh-CN"}).text
