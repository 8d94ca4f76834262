"""The report that is handed on: what it says follows the audit, and nothing in it can act."""

import dataclasses
import re

import pytest

from audit.page import render
from audit.report import Difference, Report, Tally
from audit.summary import Summary, VersionFacts

HOSTILE = "<script>alert(1)</script>&\"'"


def told(report: Report, **changes) -> Summary:
    summary = Summary(
        report=report,
        journal="kafka://127.0.0.1:9092/decisions",
        journal_digest="",
        archive="",
        archive_digest="",
        selection={},
        declaration="a" * 16,
        versions=(),
        host={"machine": "x86_64"},
        software={"plumbline": "1"},
        started_at=1_700_000_000_000_000,
        finished_at=1_700_000_060_000_000,
        command="plumbline audit",
    )
    return dataclasses.replace(summary, **changes)


def compared(count: int) -> Report:
    report = Report()
    report.decisions = count
    for layer in report.layers:
        report.add(layer, count, [])
    for sequence in range(count):
        report.see(sequence, 1_700_000_000_000)
    return report


def differing() -> Report:
    report = compared(10)
    report.add("score", 0, [Difference(3, HOSTILE, "score", HOSTILE, HOSTILE, HOSTILE, HOSTILE, 1, "f", 1)])
    report.by_version[1] = Tally(10, 1)
    report.policies[HOSTILE] += 1
    report.fingerprints[HOSTILE] += 1
    return report


def test_nothing_of_a_hostile_id_is_markup():
    version = VersionFacts(1, 10, 1, HOSTILE, {HOSTILE: "0" * 64}, (HOSTILE,), False)
    page = render(
        told(
            differing(),
            journal=HOSTILE,
            archive=HOSTILE,
            archive_digest=HOSTILE,
            selection={"since": HOSTILE},
            versions=(version,),
            host={HOSTILE: HOSTILE},
            software={"x": HOSTILE},
            command=HOSTILE,
        )
    )
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in page
    assert re.findall(r"(?:src|href)=", page) == [], "it loads nothing"
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    ("report", "says", "hides"),
    [
        (compared(12), "no bit differed in any layer", "Differences</h2>"),
        (differing(), "must not be relied upon", "no bit differed"),
        (Report(), "No statement is made, since nothing was compared", "no bit differed"),
    ],
)
def test_the_statement_follows_what_was_found(report, says, hides):
    page = render(told(report))
    assert says in " ".join(page.split())
    assert hides not in page


def test_every_layer_has_its_words_and_figures():
    page = render(told(compared(1234)))
    for layer in Report().layers:
        assert f"<th>{layer}</th>" in page
    assert page.count("1,234") >= len(Report().layers)
    assert "2023-11-14 22:13:20 UTC" in page


def test_entries_without_their_message_are_owned_up_to():
    report = compared(5)
    report.raw_missing = 4
    assert "For 4 entries the raw message is no longer kept" in " ".join(render(told(report)).split())
