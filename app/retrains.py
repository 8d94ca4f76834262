"""The nights of the retraining: how each went, step by step, and why a candidate was taken or refused.

What stands here is the table that `plumbline retrain` writes while it runs; nothing can be changed from the console.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from flask import Blueprint, abort, current_app, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext

from app.card import card_page
from app.database import store
from app.languages import duration, language, number
from app.liveness import age_seconds
from app.models import FOLDER, metric_words
from app.news import now_us
from plumbline.errors import ModelVersionNotFound, NotFound
from store import retrains
from store.model_tables import ModelVersion
from store.models import model_version
from store.retrain_tables import RetrainRun

blueprint = Blueprint("retrains", __name__, url_prefix="/retrains")

NIGHTS: Final = 60
SILENT_SECONDS: Final = 120
"""A run that is at work gives a sign of life every few seconds; after so long a silence it was probably killed."""
VERDICT_ICONS: Final = {
    "shadowed": "approve", "registered": "approve", "refused": "decline", "failed": "decline", "stopped": "review",
    "running": "note",
}  # fmt: skip
STATE_ICONS: Final = {"done": "done", "failed": "decline", "running": "note", "waiting": "note"}
METRICS: Final = (
    "ap", "cp100", "review_recall", "review_precision", "auc", "ece", "expected_ratio", "cost", "review_share",
)  # fmt: skip
"""Metrics that a page shows, the most telling first; the others that a run has follow by name."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric of candidate and champion, as text; each with its interval, where it has one."""

    name: str
    candidate: str
    champion: str


@blueprint.get("")
def page() -> ResponseReturnValue:
    """The newest nights."""
    return render_template("retrains.html", **_nights())


@blueprint.get("/rows")
def rows() -> ResponseReturnValue:
    """The table of nights alone, for a page that refreshes itself."""
    return render_template("_retrains.html", **_nights())


@blueprint.get("/<name>")
def run(name: str) -> ResponseReturnValue:
    """One night."""
    return render_template("retrain.html", **_night(name))


@blueprint.get("/<name>/part")
def part(name: str) -> ResponseReturnValue:
    """What changes of a night while it runs."""
    return render_template("_retrain.html", **_night(name))


def _nights() -> dict[str, Any]:
    return {"nights": retrains.newest(store(), NIGHTS), "headline": headline, **_words()}


def _night(name: str) -> dict[str, Any]:
    try:
        found = retrains.one(store(), name)
    except NotFound:
        abort(404)
    gate: Mapping[str, Any] = found.gate or {}
    version = _version(found.version)
    return {
        "night": found,
        "error": _error(found),
        "silent": silent(found, now_us()),
        "metrics": compared_metrics(found.metrics or {}),
        "checks": sorted(gate.get("checks", []), key=lambda each: bool(each["passed"])),
        "check_words": check_words,
        "known": version is not None,
        "card": version is not None and card_page(current_app.extensions[FOLDER], version) is not None,
        "board": board(str(current_app.config["TENSORBOARD_URL"]), found.run),
        "facts_words": facts_words,
        **_words(),
    }


def silent(run: RetrainRun, now: int) -> bool:
    """Whether a run that says it is at work has said nothing for so long that it is probably dead."""
    return run.verdict == "running" and age_seconds(f"retrain {run.run}", run.updated_at, now) > SILENT_SECONDS


def board(address: str, run: str) -> str:
    """TensorBoard's address with this run chosen; empty where none is configured."""
    return f"{address.rstrip('/')}/?runFilter={quote(run, safe='')}#timeseries" if address else ""


def headline(run: RetrainRun, name: str = "ap") -> str:
    """One metric of candidate and champion in a list's cell: `0.712 (0.698)`; a dash before there is one."""
    metrics = run.metrics or {}
    ours, theirs = (_value((metrics.get(side) or {}).get(name)) for side in ("candidate", "champion"))
    if ours is None:
        return "–"
    return number(ours, 4) if theirs is None else f"{number(ours, 4)} ({number(theirs, 4)})"


def compared_metrics(metrics: Mapping[str, Any]) -> list[Compared]:
    """Metrics of both sides, the most telling first."""
    ours, theirs = metrics.get("candidate") or {}, metrics.get("champion") or {}
    names = [name for name in METRICS if name in ours or name in theirs]
    names += sorted((set(ours) | set(theirs)) - set(names))
    return [Compared(metric_words(name), _figure(ours.get(name)), _figure(theirs.get(name))) for name in names]


def _figure(found: Any) -> str:
    value = _value(found)
    if value is None:
        return "–"
    if isinstance(found, Mapping) and found.get("low") is not None and found.get("high") is not None:
        return f"{number(value, 4)} ({number(found['low'], 4)} … {number(found['high'], 4)})"
    return number(value, 4)


def _value(found: Any) -> float | None:
    if isinstance(found, Mapping):
        found = found.get("value")
    return float(found) if isinstance(found, int | float) else None


def check_words(check: Mapping[str, Any]) -> str:
    """A check of the gate as a sentence, in the page's language."""
    return str((check.get("words_zh") if language() == "zh" else "") or check.get("words") or check["name"])


def facts_words(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a step told, but for lists and what is told elsewhere: numbers as this language writes them."""
    told = []
    for name, value in facts.items():
        if isinstance(value, bool | str):
            told.append((name, str(value)))
        elif isinstance(value, int | float):
            told.append((name, number(value, 4)))
    return told


def verdict_words(verdict: str) -> str:
    """How a night ended, in the page's language."""
    spoken = {
        "running": gettext("At work"),
        "stopped": gettext("Stopped on the way"),
        "failed": gettext("Failed"),
        "refused": gettext("Refused"),
        "registered": gettext("Registered"),
        "shadowed": gettext("In the shadow"),
    }
    return str(spoken.get(verdict, verdict))


def step_words(step: str) -> str:
    """What a step does, in the page's language."""
    spoken = {
        "archive": gettext("What is known"),
        "labels": gettext("Labels"),
        "history": gettext("History"),
        "rows": gettext("Rows"),
        "analysis": gettext("Analysis"),
        "fit": gettext("Training"),
        "evaluate": gettext("Evaluation"),
        "gate": gettext("Gate"),
        "register": gettext("Registration"),
        "shadow": gettext("Shadow"),
    }
    return str(spoken.get(step, step))


def state_words(state: str) -> str:
    """A step's state, in the page's language."""
    spoken = {
        "waiting": gettext("Waiting"),
        "running": gettext("At work"),
        "done": gettext("Done"),
        "failed": gettext("Failed"),
    }
    return str(spoken.get(state, state))


def seconds_words(seconds: float) -> str:
    """How long something took."""
    return duration(round(seconds)) if seconds >= 1 else str(gettext("below a second")) if seconds else "–"


def _error(run: RetrainRun) -> str:
    """Why a night ended as it did; a refusal in the page's language, as the gate says it in both."""
    why_zh = (run.gate or {}).get("why_zh") if run.verdict == "refused" and language() == "zh" else None
    return "；".join(why_zh) if why_zh else run.error


def _version(number: int | None) -> ModelVersion | None:
    try:
        return None if number is None else model_version(store(), number)
    except ModelVersionNotFound:
        return None


def _words() -> dict[str, Any]:
    return {
        "now": now_us(),
        "verdict_words_of": verdict_words,
        "verdict_icons": VERDICT_ICONS,
        "step_words": step_words,
        "state_words": state_words,
        "state_icons": STATE_ICONS,
        "seconds_words": seconds_words,
    }
