"""The audit as one HTML file that can be handed on: no scripts, nothing loaded from anywhere, fit for print."""

import datetime
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from audit.report import SHOWN_MOST
from audit.summary import Summary

LAYER_WORDS: Final = {
    "transaction": "the message as it was sent, parsed again, against the transaction, label or policy journaled",
    "intake": "what became of the message (decision, conflict, rejection, a label's effect), decided again",
    "history": "the exact integers of the past, by the batch pipeline, key by key",
    "sweep": "the same integers once more, by the compiled kernel in one sweep over all keys",
    "features": "every number the model reads, by the transform graph of the version that the record names",
    "score": "the score, by that version's files, as 32-bit floating point",
    "outcome": "the outcome and the rules that led to it, by the policy that the record names",
    "reasons": "what raised an alert's score most, and by how much, by the files of the version that decided",
    "snapshot": "the scorer's snapshots, each against the fold of the journal up to its sequence number",
}


def render(told: Summary) -> str:
    """The report as HTML; every value in it is escaped."""
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return pages.get_template("report.html").render(
        t=told,
        r=told.report,
        different=told.report.decisions_different,
        words=LAYER_WORDS,
        shown_most=SHOWN_MOST,
        number="{:,}".format,
        time=_time,
    )


def _time(at_us: int) -> str:
    return f"{datetime.datetime.fromtimestamp(at_us // 1_000_000, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
