"""A version's own thresholds become entries of the policy in force, and what people decided stays."""

import json
from pathlib import Path

import pytest

from plumbline.errors import Refused
from plumbline.policy import DEFAULT_POLICY, THRESHOLDS_MOST, Policy, VersionThresholds, digest, float32
from release.thresholds import POLICY_FILE, kept_from, own, with_own


def of(version: int, review_at: float = 0.2, decline_at: float = 0.4) -> VersionThresholds:
    return VersionThresholds(version=version, review_at=review_at, decline_at=decline_at)


LISTED = Policy(version="2026-09", declined_merchants=frozenset({"m-1"}), thresholds=(of(3),))


def test_thresholds_join_the_policy_in_force_and_nothing_else_of_it_changes() -> None:
    found = with_own(LISTED, [of(5), of(4)])
    assert [each.version for each in found.thresholds] == [3, 4, 5]
    assert (found.declined_merchants, found.review_at, found.decline_at) == (
        LISTED.declined_merchants,
        0.5,
        float32(0.9),
    )
    assert found.replaces == digest(LISTED)
    assert found.version.startswith("2026-09+")
    assert found == with_own(LISTED, [of(4), of(5)])
    again = with_own(found, [of(6)])
    assert again.version.count("+") == 1
    assert again.version != found.version


def test_what_stands_there_of_a_version_is_a_person_s_and_stays() -> None:
    assert with_own(LISTED, [of(3, 0.7, 0.8)]) is LISTED


def test_the_oldest_entries_go_but_for_those_that_a_rollback_may_need() -> None:
    full = Policy(version="p", thresholds=tuple(of(n) for n in range(1, THRESHOLDS_MOST + 1)))
    found = [each.version for each in with_own(full, [of(900), of(901)], kept={1}).thresholds]
    assert found == [1, *range(4, THRESHOLDS_MOST + 1), 900, 901]


def test_a_person_s_policy_keeps_the_thresholds_that_it_does_not_name() -> None:
    given = Policy(version="next", declined_accounts=frozenset({"a-1"}), thresholds=(of(4),))
    found = kept_from(LISTED, given)
    assert [each.version for each in found.thresholds] == [4, 3]
    assert (found.version, found.declined_accounts, found.declined_merchants) == (
        "next",
        frozenset({"a-1"}),
        frozenset(),
    )
    assert found.replaces == digest(LISTED)
    assert kept_from(DEFAULT_POLICY, given) is given


def test_a_version_s_file_gives_its_pair_and_no_list(tmp_path: Path) -> None:
    assert own(tmp_path, 7) is None
    file = tmp_path / "7" / POLICY_FILE
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"type": "policy", "version": "suggested", "review_at": 0.1, "decline_at": 2.0,
                                "declined_accounts": ["a-1"]}))  # fmt: skip
    assert own(tmp_path, 7) == of(7, 0.1, 2.0)
    file.write_text("{")
    with pytest.raises(Refused, match="version 7 would have no thresholds"):
        own(tmp_path, 7)
