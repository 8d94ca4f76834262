"""Two plain answers for machines: the process lives, and it can do its work."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from app.database import engine
from plumbline.errors import PlumblineError
from store.schema import require_current

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> ResponseReturnValue:
    """200 while the process answers at all."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def readyz() -> ResponseReturnValue:
    """200 when the database answers and its tables are this version's; else 503."""
    try:
        require_current(engine())
    except PlumblineError:
        # why is in the log; a stranger learns only that it is so
        return {"status": "unready"}, 503
    return {"status": "ready"}
