"""Nothing but a promotion lets a version decide: until then every payment goes to review, and it is said."""

import pytest

from features.declaration import DECLARATION
from plumbline.decision import Decision, Outcome
from plumbline.policy import FIRST_POLICY, Policy, VersionThresholds, digest
from release.publishing import first_policy
from release.thresholds import in_force, with_own
from tests.release.streamed import Bank


@pytest.fixture
def bank(kafka, tmp_path, monkeypatch):
    found = Bank(kafka.bootstrap, tmp_path, monkeypatch)
    yield found
    found.close()


def paid(bank):
    before = len(decisions(bank))
    bank.stream.pay(40)
    return [each for _, each in bank.stream.answered() if isinstance(each, Decision)][before:]


def decisions(bank):
    return [each for _, each in bank.stream.entries() if isinstance(each, Decision)]


def test_a_version_that_nobody_promoted_approves_and_declines_nothing(bank):
    where = bank.bootstrap, bank.prefix
    assert in_force(*where) == (None, FIRST_POLICY), "what a scorer's first start will bring"
    bank.start_scorer()
    found = paid(bank)
    assert {(each.outcome, each.scores[0].model_version, each.policy_version) for each in found} == {
        (Outcome.REVIEW, 1, FIRST_POLICY.version)
    }
    bank.client.declarations[2] = DECLARATION
    bank.client.version = 2
    bank.client.declarations[1] = DECLARATION
    assert {each.scores[0].model_version for each in paid(bank)} == {1}
    # What a promotion brings along, before it: the version's own thresholds, in place of the policy of the beginning.
    own = with_own(first_policy(*where), [VersionThresholds(version=2, review_at=0.5, decline_at=0.9)])
    assert own.replaces == digest(FIRST_POLICY)
    bank.stream.publish(own)
    bank.register(2)
    bank.release(2, "champion")
    found = paid(bank)
    assert {each.scores[0].model_version for each in found} == {2}
    assert {each.outcome for each in found} > {Outcome.APPROVE}


def test_a_journal_of_an_older_release_keeps_the_policy_that_it_began_with(bank, monkeypatch):
    monkeypatch.setattr("streaming.leading.FIRST_POLICY", Policy(version="default"))
    bank.start_scorer()
    assert first_policy(bank.bootstrap, bank.prefix) == Policy(version="default")
    assert in_force(bank.bootstrap, bank.prefix) == (None, Policy(version="default"))
