"""The store's sessions, one a request, on the engine that the factory was given."""

import structlog
from flask import Flask, current_app
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from plumbline.errors import PlumblineError

log = structlog.get_logger()

Sessions = scoped_session[Session]


def attach(app: Flask, engine: Engine) -> Sessions:
    """Opens sessions on an engine for an application's requests, each closed when its request ends."""
    sessions: Sessions = scoped_session(sessionmaker(engine))
    app.extensions["plumbline.engine"] = engine
    app.extensions["plumbline.sessions"] = sessions

    def close(_: BaseException | None) -> None:
        sessions.remove()

    app.teardown_appcontext(close)
    return sessions


def store() -> Session:
    """This request's session."""
    sessions: Sessions = current_app.extensions["plumbline.sessions"]
    return sessions()


def start_over() -> None:
    """Let go of a statement that failed, so that the error page can ask again on the same session."""
    try:
        store().rollback()
    except (PlumblineError, SQLAlchemyError) as error:
        log.warning("console.rollback", error=str(error))
        current_app.extensions["plumbline.sessions"].remove()


def engine() -> Engine:
    """The engine, for work that wants a transaction of its own."""
    found: Engine = current_app.extensions["plumbline.engine"]
    return found
