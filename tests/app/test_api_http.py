"""The decision API's HTTP in this process: what is accepted, what is refused and how, keys, scopes and rates."""

import json
import threading
import time

import pytest

from plumbline import transaction as language
from plumbline.errors import KeyRefused, StoreUnavailable
from store.engine import transaction
from store.keys import disable_key, list_keys
from tests.api_parts import SECRET, ApiParts, parts_of
from tests.fakes import NOW, payment, raw


@pytest.fixture
def parts(tmp_path):
    made = ApiParts(tmp_path)
    yield made
    made.close()


@pytest.fixture
def client(parts):
    return parts.app().test_client()


def post(client, parts, body, **headers):
    sent = body if isinstance(body, bytes) else raw(body)
    given = {"Authorization": f"Bearer {parts.key}", "Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return client.post("/v1/decisions", data=sent, headers={name: value for name, value in given.items() if value})


def test_a_decision_is_passed_on_and_what_was_written_is_what_the_parser_read(client, parts):
    fields = payment(1)
    reply = post(client, parts, json.dumps(fields, indent=4).encode())
    assert (reply.status_code, reply.mimetype) == (200, "application/json")
    assert reply.headers["Cache-Control"] == "no-store"
    assert parts.kafka.taken == [language.encode(language.parse(raw(fields), NOW))]
    assert bytes(parts_of(reply.data)["decision"]) == parts.board.find("t1").raw
    read = client.get("/v1/decisions/t1", headers={"Authorization": f"Bearer {parts.key}"})
    assert read.data == reply.data
    assert parts.counted("plumbline_api_answers_total", "decided") == 1
    assert parts.counted("plumbline_api_requests_total", "http", "200") == 2


BAD = [
    (b"", "record", "b''"),
    (b"no JSON", "record", "b'no JSON'"),
    (b"[]", "record", "b'[]'"),
    (b'{"transaction_id": NaN}', "transaction_id", "nan"),
    (b"\xff\xfe", "record", "b'\\xff\\xfe'"),
    (raw(payment(1)).replace(b"}", b', "mcc": "1"}'), "mcc", "'1'"),
    (raw({name: value for name, value in payment(1).items() if name != "currency"}), "currency", "None"),
    (raw(payment(1, amount_minor=-5)), "amount_minor", "-5"),
    (raw(payment(1, amount_minor=1.5)), "amount_minor", "1.5"),
    (raw(payment(1, amount_minor=10**13)), "amount_minor", "10000000000000"),
    (raw(payment(1, currency="EURO")), "currency", "'EURO'"),
    (raw(payment(1, country="XX")), "country", "'XX'"),
    (raw(payment(1, channel="carrier pigeon")), "channel", "'carrier pigeon'"),
    (raw(payment(1, mcc="54")), "mcc", "'54'"),
    (raw(payment(1, transaction_id="")), "transaction_id", "''"),
    (raw(payment(1, transaction_id="a b")), "transaction_id", "'a b'"),
    (raw(payment(1, transaction_id="x" * 65)), "transaction_id", None),
    (raw(payment(1, latitude_e6=91_000_000)), "latitude_e6", "91000000"),
    (raw(payment(1, longitude_e6=None)), "longitude_e6", "None"),
    (raw(payment(1, occurred_at=NOW + 2 * language.DAY_US)), "occurred_at", str(NOW + 2 * language.DAY_US)),
    (raw(payment(1, deadline_ms=5)), "deadline_ms", "5"),
    (raw(payment(1, score=0.1)), "score", "0.1"),
]


@pytest.mark.parametrize(("body", "field", "value"), BAD, ids=lambda value: str(value)[:24])
def test_bad_input_names_field_value_and_what_was_allowed_and_nothing_is_written(client, parts, body, field, value):
    reply = post(client, parts, body)
    problem = reply.get_json()
    assert (reply.status_code, reply.mimetype) == (400, "application/problem+json")
    assert problem["type"] == "urn:plumbline:problem:invalid"
    assert (problem["status"], problem["field"]) == (400, field)
    assert value is None or problem["value"] == value
    assert problem["allowed"]
    assert problem["allowed"] in problem["detail"]
    assert parts.kafka.taken == []


@pytest.mark.parametrize("asked", ["0", "-1", "1.5", "", "soon", "1e3", "٣", "9" * 30])
def test_a_deadline_is_a_whole_number_of_milliseconds(client, parts, asked):
    if not asked.isascii():
        asked = asked.encode().decode("latin-1")
    reply = client.post(
        "/v1/decisions",
        data=raw(payment(1)),
        headers={"Authorization": f"Bearer {parts.key}", "Plumbline-Deadline-Ms": asked},
        content_type="application/json",
    )
    assert (reply.status_code, reply.get_json()["field"]) == (400, "deadline_ms")
    assert parts.kafka.taken == []


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content_Type": "text/plain"}, raw(payment(1)), 415),
        ({"Content_Type": ""}, raw(payment(1)), 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, b"a=b", 415),
        ({"Content_Encoding": "gzip"}, raw(payment(1)), 415),
        ({}, b" " * 5000, 413),
        ({"Content_Type": "application/json; charset=utf-8"}, raw(payment(1)), 200),
    ],
)
def test_json_alone_of_limited_size(client, parts, headers, body, status):
    reply = post(client, parts, body, **headers)
    assert reply.status_code == status
    assert len(parts.kafka.taken) == (status == 200)
    if status != 200:
        assert reply.get_json()["status"] == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/decisions", 405),
        ("PUT", "/v1/decisions", 405),
        ("DELETE", "/v1/decisions/t", 405),
    ],
)
def test_other_paths_and_methods_are_problem_documents_too(client, method, path, status):
    reply = client.open(path, method=method)
    assert (reply.status_code, reply.mimetype) == (status, "application/problem+json")
    assert reply.get_json()["status"] == status
    assert ("Allow" in reply.headers) == (status == 405)


def test_a_key_that_is_missing_wrong_or_disabled_opens_nothing(client, parts):
    good = parts.key
    last = "A" if good[-1] != "A" else "B"
    for wrong in ("", "Bearer", f"Basic {good}", good, "Bearer plb_x_y", f"Bearer {good[:-1]}{last}",
                  f"Bearer plb_000000000000_{SECRET}", f"Bearer {good} "[:-2]):  # fmt: skip
        reply = post(client, parts, payment(1), Authorization=wrong)
        assert (reply.status_code, reply.headers["WWW-Authenticate"]) == (401, "Bearer"), wrong
    assert parts.kafka.taken == []
    assert post(client, parts, payment(1)).status_code == 200
    with transaction(parts.engine) as session:
        disable_key(session, "all", NOW + 1)
    assert post(client, parts, payment(2)).status_code == 200, "until the keys are read again"
    parts.keyring.refresh()
    assert post(client, parts, payment(3)).status_code == 401
    with transaction(parts.engine) as session:
        (key,) = list_keys(session)
        assert (key.disabled_at, key.last_used_at) == (NOW + 1, NOW)


def test_the_keyrings_own_thread_finds_a_disabled_key_within_the_stated_time(parts):
    parts.keyring.start()
    try:
        assert parts.keyring.admit(f"Bearer {parts.key}", "decisions:write").name == "all"
        with transaction(parts.engine) as session:
            disable_key(session, "all", NOW)
        begun = time.monotonic()

        def use_on():
            while time.monotonic() - begun < 10:
                parts.keyring.admit(f"Bearer {parts.key}", "decisions:write")
                threading.Event().wait(0.02)

        with pytest.raises(KeyRefused, match="disabled"):
            use_on()
        assert time.monotonic() - begun < 3
    finally:
        parts.keyring.close()


def test_keys_that_cannot_be_read_stay_good_for_a_while_and_then_none_is(parts, monkeypatch):
    parts.keyring.admit(f"Bearer {parts.key}", "decisions:write")
    parts.keyring._read_at -= 61
    with pytest.raises(StoreUnavailable, match="cannot be checked"):
        parts.keyring.admit(f"Bearer {parts.key}", "decisions:write")
    parts.keyring.refresh()
    parts.keyring.admit(f"Bearer {parts.key}", "decisions:write")


def test_a_scope_opens_what_it_names_and_nothing_else(client, parts):
    writer = f"Bearer {parts.add_key('writer', ('decisions:write',))}"
    reader = f"Bearer {parts.add_key('reader', ('decisions:read',))}"
    refused = post(client, parts, payment(1), Authorization=reader)
    assert (refused.status_code, refused.get_json()["type"]) == (403, "urn:plumbline:problem:scope-missing")
    assert "decisions:write" in refused.get_json()["detail"]
    assert parts.kafka.taken == []
    assert post(client, parts, payment(1), Authorization=writer).status_code == 200
    assert client.get("/v1/decisions/t1", headers={"Authorization": writer}).status_code == 403
    assert client.get("/v1/decisions/t1", headers={"Authorization": reader}).status_code == 200


def test_a_key_used_too_often_is_told_when_to_come_again_and_others_are_not_touched(tmp_path):
    parts = ApiParts(tmp_path, requests_per_second=5)
    try:
        client = parts.app().test_client()
        statuses = [post(client, parts, payment(n)).status_code for n in range(8)]
        assert statuses == [200] * 5 + [429] * 3
        refused = post(client, parts, payment(9))
        assert (refused.headers["Retry-After"], refused.mimetype) == ("1", "application/problem+json")
        assert len(parts.kafka.taken) == 5
        other = f"Bearer {parts.add_key('other', ('decisions:write',))}"
        assert post(client, parts, payment(9), Authorization=other).status_code == 200
        begun = time.monotonic()
        while post(client, parts, payment(10)).status_code == 429:
            assert time.monotonic() - begun < 3
            threading.Event().wait(0.05)
    finally:
        parts.close()


def test_a_deadline_missed_is_the_fallback_and_a_repeat_shares_the_wait(client, parts):
    parts.kafka.decides = False
    late = post(client, parts, payment(1), Plumbline_Deadline_Ms="20")
    facts = {"transaction_id": "t1", "decided": False, "fallback": True, "fallback_reason": "deadline"}
    assert (late.status_code, late.get_json()) == (200, {**facts, "outcome": "review"})
    assert post(client, parts, payment(1), Plumbline_Deadline_Ms="20").get_json() == late.get_json()
    assert len(parts.kafka.taken) == 1, "the second one waited for the first one's answer"
    decided = parts.kafka.decide("t1")
    assert bytes(parts_of(post(client, parts, payment(1)).data)["decision"]) == decided


def test_what_kafka_did_not_take_is_an_error_and_no_answer(client, parts):
    parts.kafka.down = True
    refused = post(client, parts, payment(1))
    assert (refused.status_code, refused.get_json()["type"]) == (503, "urn:plumbline:problem:not-taken")
    assert refused.headers["Retry-After"] == "1"
    assert "outcome" not in refused.get_json()
    parts.kafka.down, parts.kafka.silent = False, True
    unknown = post(client, parts, payment(1), Plumbline_Deadline_Ms="20")
    assert (unknown.status_code, "may still be written" in unknown.get_json()["detail"]) == (503, True)
    assert post(client, parts, payment(1), Plumbline_Deadline_Ms="20").status_code == 503
    assert len(parts.kafka.taken) == 1, "it is on its way, and is not sent a second time"
    parts.kafka.decide("t1")
    assert post(client, parts, payment(1)).get_json()["decided"]


def test_a_message_that_the_scorer_put_aside_is_said_to_be_so(client, parts):
    parts.kafka.decides = False
    board = parts.board
    timer = threading.Timer(0.05, board.rejected, ((0, 0), "transaction t1: occurred_at is 5: expected less"))
    timer.start()
    reply = post(client, parts, payment(1), Plumbline_Deadline_Ms="2000")
    timer.join()
    assert (reply.status_code, reply.get_json()["type"]) == (422, "urn:plumbline:problem:rejected")
    assert "occurred_at is 5" in reply.get_json()["detail"]
    board.rejected((0, 1), "before its acknowledgement")
    assert post(client, parts, payment(2)).status_code == 422


def test_an_id_decided_before_whose_decision_cannot_be_found_is_the_fallback(client, parts):
    parts.kafka.decides = False
    timer = threading.Timer(0.02, parts.board.conflicted, ("t1", 7))
    timer.start()
    reply = post(client, parts, payment(1), Plumbline_Deadline_Ms="200")
    timer.join()
    assert (reply.status_code, reply.get_json()["outcome"]) == (200, "review")
    assert reply.get_json()["fallback_reason"] == "first_decision_sought"


def test_a_fault_of_ours_says_nothing_of_its_inside(client, parts, monkeypatch):
    monkeypatch.setattr(parts.kafka, "send", lambda *_, **__: 1 / 0)
    reply = post(client, parts, payment(1))
    assert (reply.status_code, reply.mimetype) == (500, "application/problem+json")
    assert "zero" not in reply.text


def test_readiness_says_what_is_missing(parts):
    missing = ["journal"]
    client = parts.app(unready=lambda: "".join(missing)).test_client()
    assert client.get("/healthz").get_json() == {"status": "ok"}
    assert (client.get("/readyz").status_code, client.get("/readyz").get_json()["missing"]) == (503, "journal")
    missing.clear()
    assert client.get("/readyz").status_code == 200
