"""From a score to an outcome: no fault and no rule ever makes the answer milder."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.decision import MODEL_UNAVAILABLE, Outcome, Reason
from plumbline.errors import InvalidControl
from plumbline.policy import DEFAULT_POLICY, Policy, decide, encode, parse
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

scores = st.none() | st.floats(0, 1, width=32)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    review_at, decline_at = sorted([draw(st.floats(0, 2)), draw(st.floats(0, 2))])
    return Policy(
        version="p-1",
        review_at=review_at,
        decline_at=decline_at,
        review_amount_minor=draw(st.none() | st.integers(0, 10_000)),
        declined_accounts=draw(st.frozensets(st.sampled_from(["a-1", "a-2"]))),
        declined_merchants=draw(st.frozensets(st.sampled_from(["m-1", "m-2"]))),
        declined_devices=draw(st.frozensets(st.sampled_from(["d-1", "d-2"]))),
    )


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
    assert decide(TRANSACTION, score, DEFAULT_POLICY) == (outcome, ())


@pytest.mark.parametrize("score", [None, math.nan])
def test_without_a_score_the_answer_is_review_and_says_so(score: float | None) -> None:
    assert decide(TRANSACTION, score, DEFAULT_POLICY) == (Outcome.REVIEW, (MODEL_UNAVAILABLE,))


@given(policies())
def test_nothing_is_approved_without_a_score(policy: Policy) -> None:
    outcome, reasons = decide(TRANSACTION, None, policy)
    assert outcome > Outcome.APPROVE
    assert MODEL_UNAVAILABLE in reasons


@given(policies(), st.floats(0, 1, width=32), st.floats(0, 1, width=32))
def test_a_higher_score_never_has_a_milder_outcome(policy: Policy, one: float, other: float) -> None:
    low, high = sorted([one, other])
    assert decide(TRANSACTION, low, policy)[0] <= decide(TRANSACTION, high, policy)[0]


@given(policies(), scores)
def test_rules_only_make_the_outcome_more_severe(policy: Policy, score: float | None) -> None:
    bare = Policy(version="bare", review_at=policy.review_at, decline_at=policy.decline_at)
    with_rules, reasons = decide(TRANSACTION, score, policy)
    without_rules, _ = decide(TRANSACTION, score, bare)
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
    assert decide(TRANSACTION, 0.0, Policy(version="p", **changes)) == (outcome, (Reason("rule", code),))


def test_an_absent_device_is_on_no_list() -> None:
    policy = Policy(version="p", declined_devices=frozenset({""}))
    assert decide(NO_DEVICE, 0.0, policy) == (Outcome.APPROVE, ())


def test_a_policy_whose_review_is_harder_to_reach_than_decline_cannot_be_made() -> None:
    with pytest.raises(ValueError, match=r"review_at is 0.95: expected at most decline_at \(0.9\)"):
        Policy(version="p", review_at=0.95)


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
        ({"type": "assignment"}, "type", "one of policy"),
    ],
)
def test_a_bad_policy_is_refused_by_name(changes: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(InvalidControl) as caught:
        parse(json.dumps({"type": "policy", "version": "p-1", **changes}).encode())
    assert caught.value.field == field
    assert allowed in str(caught.value)
