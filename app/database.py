"""The store's sessions, one a request, on the engine that the factory was given."""

from flask import Flask, current_app
from sqlalchemy import Engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

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


def engine() -> Engine:
    """The engine, for work that wants a transaction of its own."""
    found: Engine = current_app.extensions["plumbline.engine"]
    return found
