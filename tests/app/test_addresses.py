"""No address answers 500, whatever stands in its place for a value; and the error page is shown whatever fails."""

import itertools

import pytest

HOSTILE = ("0", "-1", "9" * 30, str(2**63), str(2**63 - 1), "%00", "a%00b", "%ff%fe", "%ed%a0%80", "'", "x" * 300, "٣")
QUERIES = ("q", "after", "before", "outcome", "rows", "pages", "run", "figures")


def filled(rule, value):
    """The rule's address with a value in each place."""
    parts = [value if dynamic else part for dynamic, part in rule._trace if part != "|"]
    return "".join(parts)


def addresses(app):
    for rule in app.url_map.iter_rules():
        if "GET" in rule.methods and rule.endpoint not in ("static", "stream.stream"):
            if rule.arguments:
                yield from (filled(rule, value) for value in HOSTILE)
            else:
                yield from (f"{rule.rule}?{name}={value}" for name, value in itertools.product(QUERIES, HOSTILE))
    for name in ("after", "before"):
        yield from (f"/alerts?{name}={a}.{b}" for a, b in itertools.product(HOSTILE, repeat=2))
        yield from (f"/transactions?{name}={a}.{b}" for a, b in itertools.product(HOSTILE, repeat=2))


@pytest.mark.slow
def test_no_address_answers_500(console):
    client = console.client("supervisor")
    found = {address: client.get(address).status_code for address in addresses(console.app)}
    assert len(found) > 500
    assert {address: code for address, code in found.items() if code >= 500} == {}


def test_the_error_page_is_shown_whatever_fails_around_it(console, monkeypatch):
    client = console.client("analyst")
    with console.engine.begin() as connection:
        for table in ("alerts", "audits", "users"):
            connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO gone_{table}")
    answer = client.get("/alerts")
    assert answer.status_code == 500
    assert "Something went wrong here" in answer.text
