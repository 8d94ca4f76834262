"""What the demo's database says at the end: the champion's quality, alerts that wait, warnings that stand."""

from typing import Any, Final

from sqlalchemy import Engine

from app import create_app
from app.warnings import shown
from plumbline.settings import Settings
from store.alerts import open_count
from store.audits import newest_audit
from store.engine import transaction
from store.models import model_versions

CHAMPION: Final = "champion"


def champion_of(engine: Engine) -> int | None:
    """The registry's champion; None before the first."""
    with transaction(engine) as session:
        return next((each.version for each in model_versions(session) if each.stage == CHAMPION), None)


def audited(engine: Engine) -> bool:
    """Whether there was an audit."""
    with transaction(engine) as session:
        return newest_audit(session) is not None


def standing(settings: Settings, engine: Engine) -> dict[str, Any]:
    """The champion's average precision on its test days, open alerts, and warnings on the console's pages."""
    with transaction(engine) as session:
        precision = next((each.metrics.get("ap") for each in model_versions(session) if each.stage == CHAMPION), None)
        waiting = open_count(session)
    app = create_app(settings, engine)
    with app.test_request_context():
        warnings = shown()
    return {"model_average_precision": precision, "open_alerts": waiting, "standing_warnings": len(warnings)}
