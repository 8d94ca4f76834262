"""From a score to an outcome: no fault and no rule ever makes the answer milder."""

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.decision import LET_THROUGH, MODEL_UNAVAILABLE, Outcome, Reason, Score
from plumbline.errors import InvalidControl
from plumbline.policy import (
    DEFAULT_POLICY,
    Policy,
    VersionThresholds,
    content_digest,
    decide,
    digest,
    encode,
    parse,
    require_own_version,
    require_replaced,
)  # fmt: skip
from plumbline.transaction import Transaction

TRANSACTION = Transaction(
    transaction_id="t-1",
    occurred_at=1_700_000_000_000_000,
    account_id="a-1",
    merchant_id="m-1",
    device_id="d-1",
    amount_minor=5_000,
    currency="EUR",
    channel="ecom",
    mcc="5732",
    country="DE",
)
NO_DEVICE = Transaction(
    **{**{name: getattr(TRANSACTION, name) for name in TRANSACTION.__struct_fields__}, "device_id": ""}
)

SALT = "a salt of sixteen letters or more"

numbers = st.floats(0, 1, width=32)


def scored(value: float | None, version: int = 1) -> Score | None:
    return None if value is None else Score(version, value)


scores = st.none() | st.builds(Score, st.integers(1, 3), numbers)
pairs = st.tuples(st.floats(0, 2), st.floats(0, 2)).map(sorted)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    review_at, decline_at = draw(pairs)
    own = draw(st.dictionaries(st.integers(1, 3), pairs, max_size=3))
    return Policy(
        version="p-1",
        review_at=review_at,
        decline_at=decline_at,
        review_amount_minor=draw(st.none() | st.integers(0, 10_000)),
        declined_accounts=draw(st.frozensets(st.sampled_from(["a-1", "a-2"]))),
        declined_merchants=draw(st.frozensets(st.sampled_from(["m-1", "m-2"]))),
        declined_devices=draw(st.frozensets(st.sampled_from(["d-1", "d-2"]))),
        thresholds=tuple(VersionThresholds(version=each, review_at=low, decline_at=high)
                         for each, (low, high) in own.items()),
        sample_per_mille=draw(st.integers(0, 100)),
        sample_salt=draw(st.text("abc", min_size=16, max_size=20)),
        sample_amount_max_minor=draw(st.none() | st.integers(0, 10_000)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("score", "outcome"),
    [
        (0.0, Outcome.APPROVE),
        (0.49, Outcome.APPROVE),
        (0.5, Outcome.REVIEW),
        (0.89, Outcome.REVIEW),
        (0.9, Outcome.DECLINE),
        (1.0, Outcome.DECLINE),
    ],
)
def test_a_score_at_a_threshold_has_passed_it(score: float, outcome: Outcome) -> None:
    assert decide(TRANSACTION, scored(score), DEFAULT_POLICY) == (outcome, (), 0)


@pytest.mark.parametrize("score", [None, math.nan])
def test_without_a_score_the_answer_is_review_and_says_so(score: float | None) -> None:
    assert decide(TRANSACTION, scored(score), DEFAULT_POLICY) == (Outcome.REVIEW, (MODEL_UNAVAILABLE,), 0)


@given(policies())
def test_nothing_is_approved_without_a_score(policy: Policy) -> None:
    outcome, reasons, _ = decide(TRANSACTION, None, policy)
    assert outcome > Outcome.APPROVE
    assert MODEL_UNAVAILABLE in reasons


@given(policies(), numbers, numbers, st.integers(1, 4))
def test_a_higher_score_never_has_a_milder_outcome_but_for_the_sample(
    policy: Policy, one: float, other: float, version: int
) -> None:
    low, high = sorted([one, other])
    mild, severe = (decide(TRANSACTION, scored(each, version), policy) for each in (low, high))
    assert mild.outcome <= severe.outcome or LET_THROUGH in severe.reasons
    assert LET_THROUGH not in severe.reasons or severe.outcome is Outcome.REVIEW, "never an approval"


@given(policies(), scores)
def test_rules_only_make_the_outcome_more_severe(policy: Policy, score: Score | None) -> None:
    nobody = {"declined_accounts": frozenset(), "declined_merchants": frozenset(), "declined_devices": frozenset()}
    bare = msgspec.structs.replace(policy, review_amount_minor=None, **nobody)
    with_rules, reasons, _ = decide(TRANSACTION, score, policy)
    without_rules, _, _ = decide(TRANSACTION, score, bare)
    assert with_rules >= without_rules
    if with_rules > without_rules:
        assert any(reason.kind == "rule" for reason in reasons)


@pytest.mark.parametrize(
    ("changes", "outcome", "code"),
    [
        ({"declined_accounts": frozenset({"a-1"})}, Outcome.DECLINE, "declined_account"),
        ({"declined_merchants": frozenset({"m-1"})}, Outcome.DECLINE, "declined_merchant"),
        ({"declined_devices": frozenset({"d-1"})}, Outcome.DECLINE, "declined_device"),
        ({"review_amount_minor": 5_000}, Outcome.REVIEW, "review_amount"),
    ],
)
def test_a_rule_that_hits_is_named(changes: dict[str, Any], outcome: Outcome, code: str) -> None:
    ruled = decide(TRANSACTION, Score(1, 0.0), Policy(version="p", **changes))
    assert ruled == (outcome, (Reason("rule", code),), 0)


def test_an_absent_device_is_on_no_list() -> None:
    policy = Policy(version="p", declined_devices=frozenset({""}))
    assert decide(NO_DEVICE, Score(1, 0.0), policy) == (Outcome.APPROVE, (), 0)


THREE = Policy(
    version="p",
    review_at=0.5,
    decline_at=0.9,
    thresholds=(
        VersionThresholds(version=2, review_at=0.1, decline_at=0.2),
        VersionThresholds(version=3, review_at=2.0, decline_at=2.0),
    ),
)


@pytest.mark.parametrize(
    ("version", "value", "outcome"),
    [
        (1, 0.15, Outcome.APPROVE),
        (1, 0.6, Outcome.REVIEW),
        (2, 0.05, Outcome.APPROVE),
        (2, 0.15, Outcome.REVIEW),
        (2, 0.6, Outcome.DECLINE),
        (3, 1.0, Outcome.APPROVE),
    ],
)
def test_a_version_that_decides_has_its_own_thresholds_and_the_others_the_policy_s(
    version: int, value: float, outcome: Outcome
) -> None:
    assert decide(TRANSACTION, Score(version, value), THREE).outcome is outcome


def test_a_policy_is_refused_where_another_one_than_it_replaces_is_in_force() -> None:
    require_replaced(Policy(version="p"), None)
    next_one = Policy(version="q", replaces=digest(THREE))
    require_replaced(next_one, THREE)
    other = msgspec.structs.replace(THREE, declined_accounts=frozenset({"a-1"}))
    with pytest.raises(InvalidControl, match=f"the policy in force, p with digest {digest(other)}"):
        require_replaced(next_one, other)
    with pytest.raises(InvalidControl, match="of which there is none"):
        require_replaced(next_one, None)


def test_a_policy_whose_review_is_harder_to_reach_than_decline_cannot_be_made() -> None:
    with pytest.raises(ValueError, match=r"review_at is 0.95: expected at most decline_at \(0.9\)"):
        Policy(version="p", review_at=0.95)


HUNDREDTHS_AND_THOUSANDTHS = sorted({*(n / 100 for n in range(101)), *(n / 1000 for n in range(1001))})


def test_every_written_threshold_is_reached_by_its_own_float32_and_by_nothing_below() -> None:
    """All two-digit and three-digit thresholds, as the policy's own and as one version's."""
    for at in HUNDREDTHS_AND_THOUSANDTHS:
        raw = json.dumps({"type": "policy", "version": "p", "review_at": at, "decline_at": 2,
                          "thresholds": [{"version": 2, "review_at": 0, "decline_at": at}]}).encode()  # fmt: skip
        policy = parse(raw)
        reached = np.float32(at)
        below = np.nextafter(reached, np.float32(-1))
        for version, milder, severe in ((1, Outcome.APPROVE, Outcome.REVIEW), (2, Outcome.REVIEW, Outcome.DECLINE)):
            assert decide(TRANSACTION, Score(version, float(reached)), policy).outcome is severe, at
            assert decide(TRANSACTION, Score(version, at), policy).outcome is severe, at
            if below >= 0:
                assert decide(TRANSACTION, Score(version, float(below)), policy).outcome is milder, at


@given(pairs)
def test_a_threshold_is_the_same_float32_however_the_policy_was_made(pair: list[float]) -> None:
    made = Policy(version="p", review_at=pair[0], decline_at=pair[1])
    assert (made.review_at, made.decline_at) == tuple(float(np.float32(each)) for each in pair)
    assert parse(encode(made)) == made
    assert msgspec.structs.replace(DEFAULT_POLICY, version="p", review_at=pair[0], decline_at=pair[1]) == made
    own = VersionThresholds(version=1, review_at=pair[0], decline_at=pair[1])
    assert (own.review_at, own.decline_at) == (made.review_at, made.decline_at)


def test_ids_with_marks_of_no_pattern_can_be_listed() -> None:
    plain = ["m-1", "a+b", "x/y=", "shop(1)", "mail@bank.example", "#7", "~z", "$100", "it's"]
    raw = json.dumps({"type": "policy", "version": "p", "declined_merchants": plain}).encode()
    assert parse(raw).declined_merchants == frozenset(plain)


def test_a_journaled_policy_with_a_pattern_of_an_older_release_can_still_be_read() -> None:
    raw = json.dumps({"type": "policy", "version": "p", "declined_merchants": ["FAWRA*"]}).encode()
    assert msgspec.json.decode(raw, type=Policy).declined_merchants == {"FAWRA*"}


def test_a_version_belongs_to_one_content() -> None:
    known = {THREE.version: content_digest(THREE)}
    require_own_version(THREE, known)
    require_own_version(msgspec.structs.replace(THREE, replaces=digest(DEFAULT_POLICY)), known)
    require_own_version(Policy(version="unknown"), known)
    with pytest.raises(InvalidControl, match="an earlier policy has this one and other contents") as caught:
        require_own_version(msgspec.structs.replace(THREE, review_at=0.125), known)
    assert caught.value.field == "version"


@given(policies())
def test_a_policy_survives_the_control_topic(policy: Policy) -> None:
    assert parse(encode(policy)) == policy


@pytest.mark.parametrize(
    ("changes", "field", "allowed"),
    [
        ({"review_at": 3}, "review_at", "a number from 0 to 2"),
        ({"review_at": 0.95}, "record", "fields that fit one another"),
        ({"declined_accounts": ["a b"]}, "declined_accounts", "a list, each entry 1 to 64 printable ASCII"),
        ({"review_amount_minor": -1}, "review_amount_minor", "an integer from 0"),
        ({"approve_all": True}, "approve_all", "no such field"),
        ({"sample_per_mille": 101, "sample_salt": SALT}, "sample_per_mille", "an integer from 0 to 100"),
        ({"sample_per_mille": 1, "sample_salt": "short"}, "record", "sample_salt has 5 characters"),
        ({"thresholds": [{"version": 2, "review_at": 0.5, "decline_at": 0.4}]}, "record", "expected at most"),
        ({"declined_merchants": ["m-1", "FAWRA*"]}, "declined_merchants", "FAWRA"),
        ({"declined_accounts": ["a?1"]}, "declined_accounts", "lists know no patterns"),
        ({"declined_devices": ["d-1%"]}, "declined_devices", "lists know no patterns"),
        ({"declined_merchants": ["^m-1"]}, "declined_merchants", "lists know no patterns"),
        ({"declined_merchants": ["m-[12]"]}, "declined_merchants", "lists know no patterns"),
        ({"declined_merchants": ["m-1|m-2"]}, "declined_merchants", "lists know no patterns"),
        ({"declined_merchants": ["m-1$"]}, "declined_merchants", "lists know no patterns"),
        ({"declined_merchants": ["m-\\d"]}, "declined_merchants", "lists know no patterns"),
        ({"thresholds": [{"version": 2, "review_at": 0.5, "decline_at": 0.6}] * 2}, "record", "each version once"),
        ({"type": "assignment"}, "type", "one of policy"),
    ],
)
def test_a_bad_policy_is_refused_by_name(changes: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(InvalidControl) as caught:
        parse(json.dumps({"type": "policy", "version": "p-1", **changes}).encode())
    assert caught.value.field == field
    assert allowed in str(caught.value)
