"""No walk of requests, lawful or not, leads to an unlawful registry; and each rule says no where it must."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.errors import ModelVersionNotFound, Refused
from release.assigning import assigned
from release.stages import (
    NEXT,
    Placed,
    Registry,
    experiment_stopped,
    experimenting,
    faults,
    moves,
    promoted,
    registered,
    rolled_back,
)

VERSIONS = st.integers(1, 9)
STEPS = st.one_of(
    st.tuples(st.just("register"), VERSIONS),
    st.tuples(st.just("promote"), VERSIONS, st.sampled_from(sorted(NEXT)), st.integers(0, 1001)),
    st.tuples(st.just("promote"), VERSIONS, st.sampled_from(["shadow", "champion"]), st.just(0)),
    st.tuples(st.just("rollback"), st.none() | VERSIONS),
    st.tuples(st.just("experiment"), st.dictionaries(VERSIONS, st.integers(0, 600), max_size=5)),
    st.tuples(st.just("stop"), st.none() | VERSIONS),
)
ACTS: dict[str, Any] = {
    "register": registered,
    "promote": promoted,
    "rollback": rolled_back,
    "experiment": lambda registry, arms: experimenting(registry, "e", arms),
    "stop": experiment_stopped,
}


@given(st.lists(STEPS, max_size=80))
def test_no_walk_reaches_an_unlawful_registry(steps) -> None:
    registry, was_shadow, was_canary = Registry(), set(), set()
    for act, *arguments in steps:
        try:
            after = ACTS[act](registry, *arguments)
        except (Refused, ModelVersionNotFound):
            continue
        assert faults(after) == []
        assert assigned(after, "a") is None or set(assigned(after, "a").versions) == {
            version for version, each in after.placed.items() if each.stage in {"shadow", "canary", "champion"}
        }
        for move in moves(registry, after):
            if move.after.stage == "canary":
                assert move.version in was_shadow, "a version became canary that was never a shadow"
            if move.after.stage == "champion":
                assert registry.champion is None or move.version in was_canary or move.version in registry.former
        was_shadow |= set(after.at("shadow"))
        was_canary |= set(after.at("canary"))
        if registry.champion is not None:
            assert after.champion is not None, "a champion may only give way to another"
        registry = after


def walk(*steps: tuple[Any, ...]) -> Registry:
    registry = Registry()
    for act, *arguments in steps:
        registry = ACTS[act](registry, *arguments)
    return registry


FIRST = (("register", 1), ("promote", 1, "champion"))
SECOND = (*FIRST, ("register", 2), ("promote", 2, "shadow"))
CANARY = (*SECOND, ("promote", 2, "canary", 10))


def test_a_version_goes_all_the_way_and_comes_back() -> None:
    registry = walk(*CANARY, ("promote", 2, "canary", 250), ("promote", 2, "champion"))
    assert registry.placed == {1: Placed("retired"), 2: Placed("champion")}
    assert registry.former == (1,)
    back = rolled_back(registry)
    assert back.placed == {1: Placed("champion"), 2: Placed("retired")}
    with pytest.raises(Refused, match="first champion"):
        rolled_back(back)


def test_a_former_champion_that_is_tried_again_is_none_to_return_to() -> None:
    registry = walk(*CANARY, ("promote", 2, "champion"), ("promote", 1, "shadow"))
    assert registry.former == ()


def test_an_experiment_keeps_its_shares_until_it_stops_and_its_winner_is_the_canary() -> None:
    registry = walk(*SECOND, ("register", 3), ("promote", 3, "shadow"), ("experiment", {2: 100, 3: 100}))
    for change in ((2, "canary", 200), (3, "champion", 0), (2, "retired", 0)):
        with pytest.raises(Refused, match="experiment e runs"):
            promoted(registry, *change)
    assert experiment_stopped(registry, 3).placed[3] == Placed("canary", 100)
    assert experiment_stopped(registry, None).at("retired") == [2, 3]
    assert rolled_back(registry, 2).at("retired") == [2, 3]


@pytest.mark.parametrize(
    ("steps", "step", "says"),
    [
        (FIRST, ("promote", 1, "shadow"), "version 1 is champion, and cannot become shadow"),
        ((*FIRST, ("register", 2)), ("promote", 2, "champion"), "expected shadow, retired"),
        ((*FIRST, ("register", 2)), ("promote", 2, "canary", 10), "is candidate, and cannot become canary"),
        (SECOND, ("promote", 2, "champion"), "is shadow, and cannot become champion"),
        (SECOND, ("promote", 2, "canary", 0), "share of version 2 as canary is 0"),
        (SECOND, ("promote", 2, "canary", 1001), "expected 1 to 1000"),
        (SECOND, ("promote", 9, "shadow"), "the registry has no version 9"),
        (SECOND, ("rollback", 2), "is shadow and decides nothing"),
        (SECOND, ("stop", None), "no experiment runs"),
        (SECOND, ("register", 2), "registered already"),
        ((*CANARY, ("register", 3), ("promote", 3, "shadow")), ("promote", 3, "canary", 5), "version 2 is the canary"),
        ((("register", 1),), ("promote", 1, "shadow"), "beside no champion"),
        ((("register", 1),), ("rollback", None), "nothing to roll back"),
        (SECOND, ("experiment", {2: 1001}), "1 to 999 of every thousand"),
        ((*FIRST, ("register", 2)), ("experiment", {2: 100}), "arm 2 is candidate"),
    ],
)
def test_what_is_refused_says_why(steps, step, says) -> None:
    registry = walk(*steps)
    with pytest.raises((Refused, ModelVersionNotFound), match=says):
        ACTS[step[0]](registry, *step[1:])


def test_a_canarys_accounts_stay_with_it_while_its_share_grows() -> None:
    small = assigned(walk(*CANARY), "a")
    large = assigned(walk(*CANARY, ("promote", 2, "canary", 500)), "b")
    accounts = [f"account-{number}" for number in range(2000)]
    had = {account for account in accounts if small.routed(account) == (2, "canary")}
    assert had
    assert had <= {account for account in accounts if large.routed(account) == (2, "canary")}
