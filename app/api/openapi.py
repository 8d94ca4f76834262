"""The OpenAPI 3.1 document of the decision API, made from the very types that parse requests and write answers."""

import json
from typing import Any, Final

import msgspec

from app.api.answer import Answer
from app.api.deadline import HEADER, MOST_MS
from app.api.problems import KINDS, MEDIA, MEDIA_TYPE, TOO_LARGE, Kind, Problem
from plumbline.decision import Decision
from plumbline.transaction import Transaction
from store.keys import SCOPES

VERSION: Final = "1.0.0"

_REF: Final = "#/components/schemas/{name}"
_ALL: Final = (*(kind for _, kind in KINDS), TOO_LARGE, MEDIA)

_DECIDE: Final = (400, 401, 403, 409, 413, 415, 422, 429, 503)
_GET: Final = (401, 403, 404, 429, 503)

_DESCRIPTION: Final = """Ask for the decision on a payment, and have it from the journal within a deadline.

A failure never approves: what is not decided in time is answered with the configured fallback, review or decline, and \
marked so. The same transaction_id is decided once: send a request again whenever its fate is unknown."""


def document() -> dict[str, Any]:
    """The document."""
    _, schemas = msgspec.json.schema_components([Transaction, Answer, Decision, Problem], ref_template=_REF)
    made = {
        "openapi": "3.1.0",
        "info": {"title": "Plumbline decisions", "version": VERSION, "description": _DESCRIPTION},
        "paths": {
            "/v1/decisions": {"post": _decide()},
            "/v1/decisions/{transaction_id}": {"get": _get()},
            "/healthz": {"get": _state("health", "The process lives.", (200,))},
            "/readyz": {
                "get": _state("readiness", "It has a producer, and has read the journal to its end.", (200, 503))
            },
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, as `plumbline keys add` prints it. Scopes: "
                    + " ".join(f"`{scope}`: {meaning}" for scope, meaning in SCOPES.items()),
                }
            },
        },
    }
    # The types' defaults are tuples, and JSON's are lists.
    read: dict[str, Any] = json.loads(json.dumps(made))
    return read


def text() -> str:
    """The document as JSON, the same bytes wherever it is made."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def _decide() -> dict[str, Any]:
    deadline = {
        "name": HEADER,
        "in": "header",
        "description": "How long the caller waits, in milliseconds; more than the configured time is cut to it.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MOST_MS},
    }
    return {
        "operationId": "decide",
        "summary": "Decide on a transaction.",
        "description": "Needs the scope `decisions:write`.",
        "security": [{"key": []}],
        "parameters": [deadline],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": _REF.format(name="Transaction")}}},
        },
        "responses": {"200": _answer("The first decision on this id, or the fallback."), **_problems(_DECIDE)},
    }


def _get() -> dict[str, Any]:
    transaction_id = {
        "name": "transaction_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
    }
    return {
        "operationId": "get",
        "summary": "Read the decision on a transaction that came before, by whatever way.",
        "description": "Needs the scope `decisions:read`.",
        "security": [{"key": []}],
        "parameters": [transaction_id],
        "responses": {"200": _answer("The decision."), **_problems(_GET)},
    }


def _answer(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": _REF.format(name="Answer")}}},
    }


def _problems(statuses: tuple[int, ...]) -> dict[str, Any]:
    return {str(status): _problem([kind for kind in _ALL if kind.status == status]) for status in statuses}


def _problem(kinds: list[Kind]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": "; ".join(f"`{kind.name}`: {kind.title}" for kind in kinds) + ".",
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}},
    }
    if any(kind.retry_after_seconds is not None for kind in kinds):
        found["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
    return found


def _state(name: str, summary: str, statuses: tuple[int, ...]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"type": "string"}, "missing": {"type": "string"}},
    }
    content = {"application/json": {"schema": schema}}
    meanings = {200: "Yes.", 503: "Not yet, or not at present."}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {str(status): {"description": meanings[status], "content": content} for status in statuses},
    }
