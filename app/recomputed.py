"""One decision computed again, as a page shows it: who asked, what came of it, and every field in words."""

from dataclasses import dataclass
from typing import Any, Final

from flask_babel import gettext

from app import words
from app.database import store
from app.liveness import age_seconds
from app.news import now_us
from features import declaration
from plumbline.transaction import SECOND_US
from store.tables import Recomputation
from store.watch import continuous_audit, newest_recomputation

ALIVE_SECONDS: Final = 15
"""A watching process that has said nothing for longer is not running, as far as anybody can see."""

ASKING_US: Final = 600 * SECOND_US
"""So long a page asks by itself whether the answer has come."""

LAYERS: Final = ("transaction", "history", "features", "score", "outcome", "reasons")
_MEASURES: Final = {each.name: each for each in declaration.HISTORY}
_FEATURES: Final = frozenset(declaration.FEATURE_NAMES)


@dataclass(frozen=True, slots=True)
class Line:
    """One field: what it is in words (empty where its name says it all), its name, both values, and whether equal."""

    text: str
    name: str
    journaled: str
    recomputed: str
    equal: bool


def recomputation_of(transaction_id: str) -> dict[str, Any]:
    """The template's names for the newest recomputation of a decision; `recomputation` is None before the first."""
    found = newest_recomputation(store(), transaction_id)
    watched = continuous_audit(store())
    now = now_us()
    waiting = found is not None and found.answered_at is None
    lines = _lines(found)
    every = [line for each in lines.values() for line in each]
    return {
        "recomputation": found,
        "recomputed_id": transaction_id,
        "watcher_alive": watched is not None and age_seconds("watch", watched.updated_at, now) <= ALIVE_SECONDS,
        "asking": waiting and found is not None and now - found.asked_at <= ASKING_US,
        "field_layers": lines,
        "fields_total": len(every),
        "fields_different": [line for line in every if not line.equal],
        "layer_words": layer_words,
        "now": now,
    }


def layer_words(layer: str) -> str:
    """A layer in the page's language."""
    said = {
        "transaction": gettext("Transaction, read again"),
        "history": gettext("History"),
        "features": gettext("Features"),
        "score": gettext("Score"),
        "outcome": gettext("Outcome"),
        "reasons": gettext("Reasons"),
    }
    return str(said.get(layer, layer))


def _lines(found: Recomputation | None) -> dict[str, list[Line]]:
    fields = (found.body or {}).get("fields", []) if found is not None else []
    lines: dict[str, list[Line]] = {}
    for each in fields:
        line = Line(_words(each), each["name"], each["journaled"], each["recomputed"], each["equal"])
        lines.setdefault(each["layer"], []).append(line)
    return lines


def _words(field: dict[str, Any]) -> str:
    name = field["name"]
    if field["layer"] == "history" and name in _MEASURES:
        return words.measure_text(_MEASURES[name])
    if field["layer"] in {"features", "reasons"} and name in _FEATURES:
        return words.feature_words(name)
    return ""
