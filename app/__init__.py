"""The analysts' console, the ledger and the HTTP API: what people and databases see of the journal.

The factory imports the web framework only when it is called, so that the ledger, which lives in this package too,
starts without it.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask
    from sqlalchemy import Engine

    from plumbline.settings import Settings


def create_app(settings: "Settings", engine: "Engine") -> "Flask":
    """The console as a WSGI application over a database whose tables are up to date.

    Raises Unready when a secret is missing from the settings, or the front end was never built.
    """
    with _uncollected():
        from app.console import build

        return build(settings, engine)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Python looks for no garbage meanwhile: imports leave next to none, and looking takes a sixth of the start."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
