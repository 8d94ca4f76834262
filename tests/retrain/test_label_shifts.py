"""What the newest labels look like against those before: counted here one by one, and what a poisoned feed changes."""

import random

import pytest

from plumbline.decision import Decision, Outcome
from plumbline.journal import LabelApplied
from plumbline.transaction import DAY_US
from retrain.judged import judge
from retrain.shifts import shifts
from retrain.sources import archive, open_sources
from tests.retrain_bank import FIRST, KeptBank, played, told

DAYS = 40
CUT_OFF = (FIRST + DAYS) * DAY_US
MATURITY = 3
WEEK = 7 * DAY_US


def made(folder, poison=None):
    """Forty days without an archive; poison: (bank) -> more labels in the last days."""
    bank = KeptBank(folder / "journal")
    played(bank, range(DAYS), random.Random(8), a_day=16)
    if poison is not None:
        bank.decide(CUT_OFF - 1, [], poison(bank))
        bank.keep()
    (folder / "step").mkdir()
    archive(folder / "step", archive=None, journal=bank.folder, cut_off_us=CUT_OFF, cache=folder / "blocks")
    sources = open_sources(folder / "step")
    labels = sources.labels(CUT_OFF)
    return bank, shifts(sources, labels, judge(labels), MATURITY)


def label_entries(bank):
    return [e.label for _, e in bank.entries if isinstance(e, LabelApplied) and e.source is not None]


def truth(labels, identity, at_us, moment):
    """Fraud, genuine or None, as known at a moment; no contradictions here."""
    said = [each for each in labels if each.transaction_id == identity and each.known_at < moment]
    if said:
        banks = [each for each in said if each.source == "chargeback"]
        return (banks or said)[-1].verdict == "fraud"
    return False if at_us + MATURITY * DAY_US <= moment else None


def paid_before(bank):
    return [
        (e.transaction.transaction_id, e.transaction.occurred_at)
        for _, e in bank.entries
        if isinstance(e, Decision) and e.outcome is not Outcome.DECLINE
    ]


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    return made(tmp_path_factory.mktemp("honest"))


def test_labels_and_rates_are_those_counted_one_by_one(honest):
    bank, facts = honest
    labels = label_entries(bank)
    new = [each for each in labels if each.known_at >= CUT_OFF - WEEK]
    before = [each for each in labels if CUT_OFF - 5 * WEEK <= each.known_at < CUT_OFF - WEEK]
    assert (facts["labels_new"], facts["labels_usual"]) == (len(new), len(before) / 4)
    assert len(new) > 3
    assert facts["labels_chargeback_share"] == facts["labels_fraud_share"] == 1.0
    until = FIRST + DAYS - MATURITY
    for name, first, last in (("fraud_rate", until - 7, until), ("fraud_rate_before", until - 35, until - 7)):
        rows = [(i, at) for i, at in paid_before(bank) if first <= at // DAY_US < last]
        frauds = sum(truth(labels, i, at, CUT_OFF) for i, at in rows)
        assert facts[f"{name}_rows"] == len(rows)
        assert facts[name] == pytest.approx(frauds / len(rows))


def test_frauds_that_are_taken_back_are_seen(tmp_path, honest):
    _, usual = honest

    def withdrawn(bank):
        frauds = [each.transaction_id for each in label_entries(bank) if each.known_at < CUT_OFF - WEEK]
        return [told(90_000 + n, of, CUT_OFF - 2, "genuine") for n, of in enumerate(frauds[::2])]

    bank, facts = made(tmp_path, withdrawn)
    known = {each.transaction_id for each in label_entries(bank) if each.known_at < CUT_OFF - WEEK}
    assert usual["labels_withdrawn"] == 0
    assert facts["labels_withdrawn"] == (len(known) + 1) // 2
    assert facts["labels_withdrawn_share"] == facts["labels_withdrawn"] / len(known)
    assert facts["labels_fraud_share"] < usual["labels_fraud_share"]
    assert facts["fraud_rate_before"] < usual["fraud_rate_before"]


def test_honest_payments_called_fraud_are_seen(tmp_path, honest):
    _, usual = honest

    def accused(bank):
        told_of = {each.transaction_id for each in label_entries(bank)}
        paid = [i for i, at in paid_before(bank) if i not in told_of and at < CUT_OFF - WEEK - MATURITY * DAY_US]
        return [told(90_000 + n, of, CUT_OFF - 2, by="mallory", source="analyst") for n, of in enumerate(paid[-60:])]

    _, facts = made(tmp_path, accused)
    assert facts["labels_changed"] == usual["labels_changed"] + 60
    assert facts["labels_changed_share"] > 1 > usual["labels_changed_share"]
    assert facts["labels_analyst_share"] > 0.5
    assert facts["labels_analyst_share_before"] == 0
    assert facts["labels_new"] == usual["labels_new"] + 60
