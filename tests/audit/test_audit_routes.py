"""The audit of arms and shadows: who should have decided, who answered, and what each shadow said, once."""

import random
from pathlib import Path

import msgspec
import pytest

from audit.following import Following, compare_sample
from audit.report import Report
from audit.selection import Sample
from plumbline.decision import Decision, Score
from plumbline.journal import Answered, AssignmentApplied
from streaming.known import Known
from streaming.state import State
from tests.audit.test_audit_declarations import Fakes, assign, audited, whole_story
from tests.audit.test_following import supply_from

pytestmark = pytest.mark.slow


def routed_story():
    """Canaries of both declarations, a shadow, an arm that fails in one step, and a champion that does in another."""
    steps = [None, assign("canary", 1, 3, arms=[(2, 400)]), None, None, assign("other", 2, arms=[(1, 500), (3, 200)])]

    def during(number, client):
        client.absent = {2: {2}, 3: {1, 3}}.get(number, set())

    return whole_story(steps, during)


@pytest.fixture(scope="module")
def of():
    return routed_story()


def names(report):
    return {(each.sequence, each.name) for each in report.differences}


def decision_of(of, route, scored=True, after=0):
    return next(
        n
        for n in of.at(Decision)
        if n > after and of.entries[n].route == route and bool(of.entries[n].scores) is scored
    )


def test_of_arms_fallbacks_and_shadows_nothing_differs(of):
    report = audited(of)
    assert report.differences == []
    routes = {(of.entries[n].assignment, of.entries[n].route, bool(of.entries[n].scores)) for n in of.at(Decision)}
    assert routes == {
        ("", "newest", True), ("canary", "champion", True), ("canary", "canary", True), ("canary", "fallback", True),
        ("canary", "champion", False), ("other", "champion", True), ("other", "canary", True),
    }  # fmt: skip
    assert (report.shadow_rows, report.shadow_failed, report.shadow_waiting) == (80, 40, 0)
    assert report.compared["score"] == sum(len(of.entries[n].scores) for n in of.at(Decision)) + 80


def fallback_without_a_failure(of):
    at = decision_of(of, "canary")
    champion = Score(1, of.entries[at].scores[0].value)
    return of.with_entry(at, route="fallback", scores=(champion,)), at, {"route", "deciding version"}


def another_route(of):
    at = decision_of(of, "champion")
    return of.with_entry(at, route="canary"), at, {"route"}


def another_version(of):
    at = decision_of(of, "champion")
    return of.with_entry(at, scores=(Score(3, of.entries[at].scores[0].value),)), at, {"deciding version"}


def another_assignment(of):
    at = decision_of(of, "canary")
    return of.with_entry(at, assignment="earlier"), at, {"assignment"}


def no_assignment_after_there_were_some(of):
    at = decision_of(of, "canary", after=decision_of(of, "canary"))
    return of.with_entry(at, assignment="", route="newest"), at, {"assignment"}


def a_score_withheld(of):
    at = decision_of(of, "canary")
    return of.with_entry(at, scores=()), at, {"deciding version"}


def a_shadows_answer_twice(of):
    at = next(n for n in of.at(Answered) if of.entries[n].role == "shadow")
    said = of.entries[at]
    changes = {"sequences": (*said.sequences, said.sequences[0]), "values": (*said.values, 0.5), "rows": 41}
    return of.with_entry(at, **changes), at, {f"entry {said.sequences[0]}"}


def a_shadows_score_withheld(of):
    at = next(n for n in of.at(Answered) if of.entries[n].role == "shadow")
    return of.with_entry(at, values=of.entries[at].values[:-1]), at, {"rows"}


@pytest.mark.parametrize(
    "fault",
    [
        fallback_without_a_failure, another_route, another_version, another_assignment,
        no_assignment_after_there_were_some, a_score_withheld, a_shadows_answer_twice, a_shadows_score_withheld,
    ],
)  # fmt: skip
def test_each_planted_fault_shows_at_its_entry(of, fault):
    planted, at, expected = fault(of)
    found = {name for sequence, name in names(audited(planted)) if sequence == at}
    assert found >= expected


def test_an_arm_said_to_have_failed_and_answers_that_were_taken_away_show(of):
    at = next(n for n in of.at(Answered) if of.entries[n].role == "canary" and not of.entries[n].failure)
    told = {name for _, name in names(audited(of.with_entry(at, failure="error")))}
    assert {"route", "deciding version"} <= told
    assert any(name == "answer" for _, name in names(audited(of.without_entry(at))))
    champion = next(n for n in of.at(Answered) if of.entries[n].role == "champion")
    told = {name for _, name in names(audited(of.with_entry(champion, rows=41)))}
    assert "decisions asked about" in told


def test_a_decision_that_no_shadow_answered_about_is_told_once_so_many_more_are_made(of, monkeypatch):
    last = [n for n in of.at(Answered) if of.entries[n].role == "shadow"][-1]
    lost = of.with_entry(last, sequences=(), values=(), rows=0, failure="")
    report = audited(lost)
    assert (report.differences, report.shadow_waiting) == ([], 40), "they may still come"
    monkeypatch.setattr("audit.shadowed.LOST_DECISIONS", 10)
    report = audited(lost)
    assert {each.name for each in report.differences} == {"answer of shadow 3"}


def test_an_assignment_that_replaced_another_than_it_said_shows(of):
    at = of.at(AssignmentApplied)[1]
    given = msgspec.structs.replace(of.entries[at].assignment, replaces="somebody")
    planted = of.with_entry(at, assignment=given)
    source = of.entries[at].source
    planted.messages[source.topic, source.offset] = msgspec.json.encode(given)
    assert (at, "replaces") in names(audited(planted))


def test_older_journals_hold_shadows_in_their_decisions_and_audit_as_before():
    of = whole_story()
    shadows = {n: (each.version, value) for each in of.entries if isinstance(each, Answered) and each.role == "shadow"
               for n, value in zip(each.sequences, each.values, strict=True)}  # fmt: skip
    old = []
    for n, each in enumerate(of.entries):
        if isinstance(each, Decision):
            beside = (Score(*shadows[n]),) if n in shadows else ()
            old.append(msgspec.structs.replace(each, assignment="", route="newest", scores=(*each.scores, *beside)))
        elif not isinstance(each, Answered):
            old.append(each)
    report = audited(type(of)(of.prefix, old, of.messages))
    assert report.differences == []
    assert report.compared["score"] == 200 + 120


def watched(of, seed=0, one_in=1, after=-1):
    """What the continuous audit finds, wherever its chunks end."""
    draw, report = random.Random(seed), Report()
    following = Following(State(Known(1024)), supply_from(of.entries))
    numbered, begin = list(enumerate(of.entries)), 0
    while begin < len(numbered):
        end = begin + draw.randint(1, 60)
        for run in following.take(numbered[begin:end]):
            compare_sample(
                report, run, after, Sample(1, one_in), following.policies, Fakes(Path("unused")), following.shadowed
            )
        begin = end
    return report, following


@pytest.mark.parametrize("seed", range(3))
def test_the_continuous_audit_follows_routes_and_shadows(of, seed):
    report, following = watched(of, seed)
    assert report.differences == []
    assert (report.decisions, following.shadowed.rows, following.shadowed.failed) == (200, 80, 40)
    assert report.compared["score"] == sum(len(of.entries[n].scores) for n in of.at(Decision)) + 80


def test_the_continuous_audit_finds_a_wrong_route_and_a_wrong_shadow(of):
    planted, at, expected = another_route(of)
    report, _ = watched(planted)
    assert {(each.sequence, each.name) for each in report.differences} == {(at, name) for name in expected}
    answer = next(n for n in of.at(Answered) if of.entries[n].values)
    said = of.entries[answer]
    report, _ = watched(of.with_entry(answer, values=(0.25, *said.values[1:])))
    assert {(each.sequence, each.name) for each in report.differences} == {(said.sequences[0], "version 3")}
    report, _ = watched(of.with_entry(answer, values=(0.25, *said.values[1:])), after=answer)
    assert report.differences == [], "it was counted before"


def test_the_continuous_audit_compares_the_shadows_of_its_sample_alone(of):
    report, following = watched(of, one_in=2)
    assert report.differences == []
    assert 0 < following.shadowed.rows + following.shadowed.failed < 120


def test_an_audit_that_begins_in_the_middle_passes_over_answers_about_what_it_does_not_know(of):
    middle = next(n for n in of.at(Answered) if of.entries[n].role == "shadow")
    state = State(Known(1024))
    state.fold(list(enumerate(of.entries))[:middle], supply_from(of.entries))
    following, report = Following(state, supply_from(of.entries)), Report()
    for run in following.take(list(enumerate(of.entries))[middle:]):
        policies = {"default": of.entries[0].policy}
        compare_sample(report, run, -1, Sample(1, 1), policies, Fakes(Path("unused")), following.shadowed)
    assert report.differences == []
    assert following.shadowed.rows == 40
