"""The likely cause of a difference: one table, a case a line; and what a whole report makes of planted differences."""

import pytest

from audit.causes import NEAR_ULPS, Cause, Evidence, cause_of, explain
from audit.report import Difference, Report

OURS, OTHER = "a" * 16, "b" * 16


def found(layer, name="value", journaled="0x1", recomputed="0x2", fingerprint=OURS, ulps=None, sequence=7, version=1):
    return Difference(sequence, f"t{sequence}", layer, name, journaled, recomputed, "", ulps, fingerprint, version)


def known(compared=1000, different=1, layers=(), **more):
    return Evidence(frozenset({OURS}), frozenset(layers), compared=compared, different=different, **more)


@pytest.mark.parametrize(
    ("difference", "evidence", "cause"),
    [
        (found("transaction"), known(), Cause.RECORD),
        (found("transaction", "message", recomputed="no message"), known(), Cause.EXTRA),
        (found("intake", "entry", journaled="absent"), known(), Cause.MISSING),
        (found("intake", "effect"), known(), Cause.RECORD),
        (found("intake", "effect"), known(different=400), Cause.STATE),
        (found("intake", "entry"), known(layers=["transaction"]), Cause.FOLLOWS),
        (found("history"), known(), Cause.RECORD),
        (found("sweep"), known(), Cause.RECORD),
        (found("history"), known(different=900), Cause.STATE),
        (found("history"), known(ways_agree=False), Cause.TWO_WAYS),
        (found("history", "row", recomputed="absent"), known(layers=["intake"]), Cause.FOLLOWS),
        (found("history", fingerprint=OTHER), known(), Cause.DECLARATION),
        (found("score", fingerprint=OTHER), known(as_exported=False), Cause.DECLARATION),
        (found("score", "declaration"), known(different=1000), Cause.DECLARATION),
        (found("features"), known(layers=["history"]), Cause.FOLLOWS),
        (found("features"), known(), Cause.TWO_WAYS),
        (found("score", ulps=10**6), known(as_exported=False, different=1000), Cause.FILES),
        (found("score", ulps=10**6), known(different=1000), Cause.FILES),
        (found("score", ulps=10**6), known(), Cause.RECORD),
        (found("score", ulps=None), known(), Cause.RECORD),
        (found("score", ulps=2), known(different=40), Cause.HOST),
        (found("score", ulps=2), known(different=1000, as_exported=True), Cause.HOST),
        (found("score", ulps=NEAR_ULPS + 1), known(different=40), Cause.FILES),
        (found("score", ulps=2), known(same_host=True), Cause.RECORD),
        (found("score", ulps=2), known(same_host=False), Cause.HOST),
        (found("score", ulps=2), known(layers=["history"]), Cause.FOLLOWS),
        (found("outcome"), known(), Cause.RECORD),
        (found("outcome"), known(layers=["score"]), Cause.FOLLOWS),
        (found("reasons"), known(), Cause.RECORD),
        (found("reasons"), known(layers=["outcome"]), Cause.FOLLOWS),
        (found("reasons", ulps=9), known(same_host=False), Cause.HOST),
        (found("reasons"), known(different=700), Cause.FILES),
        (found("reasons"), known(as_exported=False), Cause.FILES),
        (found("outcome", "policy_version"), known(), Cause.POLICY),
    ],
)
def test_cause(difference, evidence, cause):
    assert cause_of(difference, evidence) is cause


def test_few_is_a_hundredth_or_three():
    assert known(compared=5, different=3).few
    assert not known(compared=5, different=4).few
    assert known(compared=1000, different=10).few
    assert not known(compared=1000, different=11).few


def causes(report):
    explain(report, {OURS})
    return [(each.layer, Cause(each.cause)) for each in report.differences]


def test_a_report_tells_the_root_from_what_follows():
    report = Report()
    report.add("history", 500, [found("history", "count", "0x1", "0x2")])
    report.add("sweep", 500, [found("sweep", "count", "0x1", "0x2")])
    report.add("features", 500, [found("features", "count_log")])
    assert causes(report) == [
        ("history", Cause.RECORD), ("sweep", Cause.RECORD), ("features", Cause.FOLLOWS),
    ]  # fmt: skip


def test_two_ways_that_disagree_accuse_the_audit_and_not_the_record():
    report = Report()
    report.add("history", 500, [found("history", "count", "0x1", "0x2")])
    report.add("sweep", 500, [])
    assert causes(report) == [("history", Cause.TWO_WAYS)]
    report = Report()
    report.add("history", 500, [found("history", "count", "0x1", "0x2")])
    report.add("sweep", 500, [found("sweep", "count", "0x1", "0x3")])
    assert causes(report) == [("history", Cause.TWO_WAYS), ("sweep", Cause.TWO_WAYS)]


def test_only_one_way_taken_is_no_disagreement():
    report = Report()
    report.add("sweep", 500, [found("sweep", "count", "0x1", "0x2")])
    assert causes(report) == [("sweep", Cause.RECORD)]


def test_scores_are_judged_within_their_version():
    report = Report()
    report.add("score", 1000, [found("score", ulps=10**6, version=2, sequence=n) for n in range(5)])
    for version, compared, different in ((1, 995, 0), (2, 5, 5)):
        report.by_version[version] = type(report.layers["score"])(compared, different)
    assert {cause for _, cause in causes(report)} == {Cause.FILES}
