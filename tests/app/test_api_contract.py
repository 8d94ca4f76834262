"""The decision API's OpenAPI document: valid, up to date with the types, and kept by the application."""

import json

import hypothesis
import pytest
import schemathesis
from openapi_spec_validator import validate
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from app.api import openapi
from app.api.answer import Answer
from app.api.problems import KINDS, Problem
from plumbline.transaction import DAY_US, Transaction
from store.keys import SCOPES
from tests.api_parts import ApiParts
from tests.fakes import NOW


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    made = ApiParts(tmp_path_factory.mktemp("contract"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def api_schema(parts):
    return schemathesis.openapi.from_wsgi("/v1/openapi.json", parts.app(openapi.text().encode()))


def test_the_document_is_valid_openapi_31():
    validate(openapi.document())
    assert openapi.document()["openapi"] == "3.1.0"


def test_it_is_made_from_the_types_and_names_every_scope_and_problem():
    schemas = openapi.document()["components"]["schemas"]
    for type_ in (Transaction, Answer, Problem):
        assert list(schemas[type_.__name__]["properties"]) == list(type_.__struct_fields__)
    assert schemas["Answer"]["properties"]["decision"]["anyOf"][0]["$ref"] == "#/components/schemas/Decision"
    text = openapi.text()
    assert [name for name in [*SCOPES, *(kind.name for _, kind in KINDS)] if name not in text] == []
    assert json.loads(text) == openapi.document()


def test_it_is_served_as_it_is_written(parts):
    reply = parts.app(openapi.text().encode()).test_client().get("/v1/openapi.json")
    assert (reply.mimetype, reply.text) == ("application/json", openapi.text())


OPERATIONS = [
    ("/v1/decisions", "POST"), ("/v1/decisions/{transaction_id}", "GET"), ("/healthz", "GET"), ("/readyz", "GET")
]  # fmt: skip


@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=lambda part: part)
def test_the_application_keeps_it(api_schema, parts, path, method):
    operation = api_schema[path][method]
    seen = set()

    # A body may fit the schema and still be refused: coordinates come together or not at all, and 1.0 is no integer
    # here. Times have to be near the clock, which almost none that is drawn is.
    @hypothesis.given(case=operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    @hypothesis.settings(max_examples=40, suppress_health_check=list(hypothesis.HealthCheck))
    def keeps(case):
        drawn = case.body.get("occurred_at") if isinstance(case.body, dict) else None
        if type(drawn) is int and 0 <= drawn < 2 * NOW:
            case.body["occurred_at"] = NOW - drawn % DAY_US
        reply = case.call_and_validate(
            headers={"Authorization": f"Bearer {parts.key}"}, excluded_checks=[positive_data_acceptance]
        )
        seen.add(reply.status_code)

    keeps()
    assert 500 not in seen
    if method == "POST":
        assert {200, 400} <= seen, "both sides of the contract were met"
