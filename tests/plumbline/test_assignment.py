"""An assignment deals accounts to versions: stably, in the shares it says, and refuses what cannot be dealt."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.assignment import Arm, Assignment, bucket, parse
from plumbline.cli.shares import arm
from plumbline.errors import InvalidControl, InvalidSetting

ACCOUNTS = [f"account-{n}" for n in range(20_000)]


def one(*shares: int, salt: str = "") -> Assignment:
    """Version 1 as champion, and versions 2, 3, … with the given shares of a thousand."""
    arms = tuple(Arm(version, share) for version, share in enumerate(shares, 2))
    return Assignment(version="one", decides=1, arms=arms, salt=salt)


@given(st.text(max_size=64), st.text(max_size=20))
def test_an_account_is_in_the_same_place_every_time(account: str, salt: str) -> None:
    assert 0 <= bucket(salt, account) == bucket(salt, account) < 1000


@given(st.integers(1, 999), st.integers(1, 999))
def test_an_arm_that_grows_keeps_its_accounts(share: int, other: int) -> None:
    small, large = sorted((share, other))
    for account in ACCOUNTS[:200]:
        if one(small).routed(account)[0] == 2:
            assert one(large).routed(account) == (2, "canary")


def test_shares_are_as_said() -> None:
    dealt = Counter(one(1, 99, 400).routed(account)[0] for account in ACCOUNTS)
    for version, share in ((1, 0.5), (2, 0.001), (3, 0.099), (4, 0.4)):
        spread = (share * (1 - share) / len(ACCOUNTS)) ** 0.5
        assert abs(dealt[version] / len(ACCOUNTS) - share) < 4 * spread


def test_another_salt_deals_anew() -> None:
    same = sum(one(500).routed(each) == one(500, salt="b").routed(each) for each in ACCOUNTS)
    assert abs(same / len(ACCOUNTS) - 0.5) < 0.02


def test_the_whole_share_leaves_the_champion_nothing() -> None:
    assert {one(1000).routed(account) for account in ACCOUNTS[:500]} == {(2, "canary")}


@pytest.mark.parametrize(
    "wrong",
    [
        {"arms": [{"version": 2, "per_mille": 0}]},
        {"arms": [{"version": 2, "per_mille": 600}, {"version": 3, "per_mille": 401}]},
        {"arms": [{"version": 1, "per_mille": 10}]},
        {"arms": [{"version": 2, "per_mille": 10}], "shadows": [2]},
        {"kind": "lottery"},
    ],
)
def test_what_cannot_be_dealt_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidControl):
        parse(msgspec.json.encode({"type": "assignment", "version": "x", "decides": 1, **wrong}))


def test_an_arm_outside_its_range_is_refused_with_the_range() -> None:
    wrong = {"type": "assignment", "version": "x", "decides": 1, "arms": [{"version": 2, "per_mille": 1500}]}
    with pytest.raises(InvalidControl, match="per_mille: an integer from 1 to 1000"):
        parse(msgspec.json.encode(wrong))


@pytest.mark.parametrize(
    ("given", "per_mille"), [("2=50", 50), ("2=0.1%", 1), ("2=12.5%", 125), ("2=100%", 1000), ("2=5.0", 5)]
)
def test_an_arm_on_the_command_line_is_a_share_of_a_thousand_or_in_percent(given, per_mille):
    assert arm(given) == (2, per_mille)


@pytest.mark.parametrize("given", ["2", "=5", "x=5", "2=0.05%", "2=1.5", "2=-1", "2=5%%", ""])
def test_another_arm_is_refused_with_what_would_do(given):
    with pytest.raises(InvalidSetting, match=r"such as 2=50"):
        arm(given)
