"""The analysts' console, the ledger and the HTTP API: what people and databases see of the journal.

The factory imports the web framework only when it is called, so that the ledger, which lives in this package too,
starts without it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask
    from sqlalchemy import Engine

    from plumbline.settings import Settings


def create_app(settings: "Settings", engine: "Engine") -> "Flask":
    """The console as a WSGI application over a database whose tables are up to date.

    Raises Unready when a secret is missing from the settings, or the front end was never built.
    """
    from app.console import build

    return build(settings, engine)
