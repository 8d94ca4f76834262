"""Puts the console together: a new application each time, with nothing kept in the module."""

import hashlib
import secrets
from functools import cache
from pathlib import Path
from typing import Final

import structlog
from flask import Flask, g, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_security import current_user
from flask_security.core import AnonymousUser
from markupsafe import escape
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException, InternalServerError

from app import (
    access,
    addresses,
    alerts,
    codes,
    database,
    drift,
    frontend,
    health,
    incidents,
    languages,
    liveness,
    models,
    overview,
    profile,
    protection,
    recompute,
    retrains,
    stream,
    transactions,
    warnings,
)
from app.icons import icon
from app.news import Desk, now_us
from plumbline.errors import PlumblineError, StoreUnavailable, Unready
from plumbline.settings import Settings
from store.alerts import open_count

log = structlog.get_logger()

STATIC: Final = Path(__file__).parent / "static"
STATIC_SECONDS: Final = 31_536_000
BLUEPRINTS: Final = (
    health, overview, alerts, transactions, drift, models, retrains, incidents, stream, profile, warnings, recompute,
)  # fmt: skip


def build(settings: Settings, engine: Engine) -> Flask:
    """The console over a database; see `app.create_app`."""
    if not frontend.ready():
        raise Unready("the console's front end is not built: run `python -m app.frontend` (make does it)")
    app = Flask("app", static_folder=str(STATIC), template_folder="templates")
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = STATIC_SECONDS
    app.config["TENSORBOARD_URL"] = settings.tensorboard_url
    app.config["REJECTED_SHARE_WARN"] = settings.rejected_share_warn
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    protection.protect(app, settings)
    addresses.guard(app)
    languages.speak(app)
    access.guard(app, settings, database.attach(app, engine))
    for module in BLUEPRINTS:
        app.register_blueprint(module.blueprint)
    protection.limit_log_in(app)
    app.extensions[models.FOLDER] = settings.models_path
    liveness.watch_signs(app)
    app.extensions["plumbline.desk"] = Desk(engine, stream.STREAMS_MAX, now_us)
    app.jinja_env.globals.update(
        asset=asset,
        icon=icon,
        waiting=waiting,
        standing_warnings=warnings.shown,
        outcome_words=codes.outcome_words,
        route_words=codes.route_words,
        unscored_words=codes.unscored_words,
        verdict_words=codes.verdict_words,
        source_words=codes.source_words,
        channel_words=codes.channel_words,
        country_words=codes.country_words,
        equation_words=codes.equation_words,
    )
    app.register_error_handler(HTTPException, on_http_error)
    app.register_error_handler(StoreUnavailable, on_store_unavailable)
    app.register_error_handler(Exception, on_error)
    return app


def asset(name: str) -> str:
    """The address of a static file, with its content's digest, so that a browser may keep it for good."""
    return url_for("static", filename=name, v=_digest(name))


@cache
def _digest(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


def waiting() -> int | None:
    """How many alerts are open, for the tab; None where the database cannot say, since an error page shows it too."""
    try:
        return open_count(database.store())
    except StoreUnavailable:
        return None


def on_http_error(error: HTTPException) -> ResponseReturnValue:
    """A page that says what is wrong and what to do, with the status unchanged."""
    if error.response is not None or error.code is None or error.code < 400:
        return error
    return error_page(error.code)


def on_store_unavailable(error: StoreUnavailable) -> ResponseReturnValue:
    """503, since the database may be back in a moment."""
    _ask_no_more()
    log.warning("console.store_unavailable", path=request.path, error=str(error))
    return error_page(503)


def _ask_no_more() -> None:
    """Settle who is asking (nobody, where the store cannot say), so that log and error page do not fail on it again."""
    database.start_over()
    try:
        known = current_user.is_authenticated
    except (PlumblineError, SQLAlchemyError) as cause:
        known = False
        log.warning("console.person_unknown", path=request.path, error=str(cause))
    if not known:
        g._login_user = AnonymousUser()  # type: ignore[no-untyped-call] # where Flask-Login keeps the person of a request


def on_error(error: Exception) -> ResponseReturnValue:
    """500 with a number that stands in the log beside the cause; the cause itself is not shown."""
    _ask_no_more()
    g.incident = secrets.token_hex(4)
    log.error("console.error", path=request.path, incident=g.incident, exc_info=error)
    return error_page(InternalServerError.code)


def error_page(code: int) -> ResponseReturnValue:
    """What to read for a status code."""
    texts = {
        400: (gettext("This request could not be read"), gettext("Go back, load the page again, and try once more.")),
        401: (gettext("Log in first"), gettext("Your session has ended.")),
        403: (
            gettext("This is not allowed"),
            gettext("Your role does not include it, or the request came from another site."),
        ),
        404: (gettext("Nothing here"), gettext("The address is wrong, or what it named does not exist.")),
        405: (gettext("This is not allowed"), gettext("The address does not take this kind of request.")),
        413: (gettext("Too much at once"), gettext("Shorten the note and send it again.")),
        429: (gettext("Too many failed log-ins"), gettext("Wait some minutes, then try again.")),
        503: (gettext("The database cannot be reached"), gettext("Decisions go on without it. Try again in a moment.")),
    }
    title, text = texts.get(
        code, (gettext("Something went wrong here"), gettext("It has been noted. Try again in a moment."))
    )
    incident = g.get("incident")
    try:
        return render_template("error.html", code=code, title=title, text=text, incident=incident), code
    except Exception as error:  # noqa: BLE001 - the last page there is: whatever fails around it, it is shown
        # The page around the message asks the database; the message itself needs nobody.
        log.warning("console.error_page", path=request.path, code=code, error=str(error))
        return plain_error_page(str(title), str(text), incident), code


def plain_error_page(title: str, text: str, incident: str | None) -> str:
    """The same message without anything that could fail."""
    number = f"<p>{escape(incident)}</p>" if incident else ""
    return f"<!doctype html>\n<title>{escape(title)}</title>\n<h1>{escape(title)}</h1>\n<p>{escape(text)}</p>{number}\n"
