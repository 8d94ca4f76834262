"""The decision API over HTTP: a thin Flask application around `app.api.core`."""

import time
from collections.abc import Callable
from typing import Final

import msgspec
import structlog
from flask import Flask, Response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from app.api import answer as answers
from app.api.core import Decisions
from app.api.deadline import HEADER, Deadlines
from app.api.gate import Gate
from app.api.problems import (
    INVALID,
    MEDIA,
    MEDIA_TYPE,
    METHOD,
    NOT_FOUND,
    TOO_LARGE,
    Kind,
    Problem,
    problem,
    problem_of,
)
from observe.metrics import Metrics
from plumbline.transaction import RECORD_MAX_BYTES

log = structlog.get_logger()

KINDS_BY_STATUS: Final = {404: NOT_FOUND, 405: METHOD, 413: TOO_LARGE, 415: MEDIA}


def create_api(
    decisions: Decisions,
    gate: Gate,
    deadlines: Deadlines,
    metrics: Metrics,
    document: bytes,
    unready: Callable[[], str],
) -> Flask:
    """The WSGI application.

    document: the OpenAPI document; unready: what is missing before decisions can be made, empty when nothing is.
    """
    app = Flask("plumbline.api", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = RECORD_MAX_BYTES
    app.url_map.strict_slashes = False

    def guarded(scope: str) -> None:
        gate.admit(request.headers.get("Authorization"), scope)

    @app.post("/v1/decisions")
    def decide() -> ResponseReturnValue:
        begun = time.monotonic()
        guarded("decisions:write")
        if request.mimetype != "application/json" or "Content-Encoding" in request.headers:
            return _problem(MEDIA, problem(MEDIA, "send the transaction as application/json, not compressed"))
        seconds = deadlines.seconds(request.headers.get(HEADER))
        answer = decisions.decide(request.get_data(cache=False), seconds)
        metrics.histogram("plumbline_api_seconds").labels("http").observe(time.monotonic() - begun)
        return _json(answers.encode(answer))

    @app.get("/v1/decisions/<transaction_id>")
    def get(transaction_id: str) -> ResponseReturnValue:
        guarded("decisions:read")
        return _json(answers.encode(decisions.get(transaction_id)))

    @app.get("/v1/openapi.json")
    def openapi() -> ResponseReturnValue:
        return _json(document)

    @app.get("/healthz")
    def healthz() -> ResponseReturnValue:
        return {"status": "ok"}

    @app.get("/readyz")
    def readyz() -> ResponseReturnValue:
        missing = unready()
        return ({"status": "unready", "missing": missing}, 503) if missing else {"status": "ready"}

    @app.errorhandler(Exception)
    def failed(error: Exception) -> ResponseReturnValue:
        if isinstance(error, RequestEntityTooLarge):
            return _problem(TOO_LARGE, problem(TOO_LARGE, f"a transaction has {RECORD_MAX_BYTES} bytes or fewer"))
        if isinstance(error, HTTPException):
            kind = KINDS_BY_STATUS.get(error.code or 400, INVALID)
            response = _problem(kind, problem(kind, error.description or error.name))
            for name, value in error.get_headers():
                if name == "Allow":
                    response.headers[name] = value
            return response
        kind, document = problem_of(error)
        if kind.status == 500:
            log.error("a request failed", path=request.path, exc_info=error)
        return _problem(kind, document)

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        metrics.counter("plumbline_api_requests_total").labels("http", str(response.status_code)).inc()
        return response

    return app


def _json(body: bytes) -> Response:
    return Response(body, mimetype="application/json")


def _problem(kind: Kind, document: Problem) -> Response:
    response = Response(msgspec.json.encode(document), kind.status, mimetype=MEDIA_TYPE)
    if kind.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(kind.retry_after_seconds)
    if kind.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
