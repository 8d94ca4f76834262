"""Labels judged in columns against labels judged one by one, and who has a truth at all."""

import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.decision import Outcome
from plumbline.policy import Policy
from plumbline.transaction import DAY_US
from retrain.judged import RANKS, judge
from retrain.labels import InvalidRules, LabelRules
from retrain.sources import archive, open_sources
from retrain.truth import truths_of
from tests.retrain_bank import FIRST, KeptBank, paid, told

SCHEMA = pa.schema(
    [("transaction_id", pa.string()), ("verdict", pa.string()), ("source", pa.string()), ("by", pa.string()),
     ("known_at", pa.int64())]
)  # fmt: skip

LABELS = st.lists(
    st.fixed_dictionaries(
        {
            "transaction_id": st.sampled_from(["t1", "t2", "t3", "t4"]),
            "verdict": st.sampled_from(["fraud", "genuine", "unsure"]),
            "source": st.sampled_from(sorted(RANKS)),
            "by": st.sampled_from(["", "ada", "bob"]),
            "known_at": st.integers(0, 9),
        }
    ),
    max_size=25,
)


def one_by_one(labels):
    """What is true of each transaction, and whether two who spoke of it disagree in their last words."""
    found = {}
    for identity in {each["transaction_id"] for each in labels if each["verdict"] != "unsure"}:
        heard = [each for each in labels if each["transaction_id"] == identity and each["verdict"] != "unsure"]
        best = max(RANKS[each["source"]] for each in heard)
        decided = [each for each in heard if RANKS[each["source"]] == best][-1]
        words = {(each["source"], each["by"]): each["verdict"] for each in heard}
        found[identity] = (decided["verdict"], decided["source"], decided["known_at"], len(set(words.values())) > 1)
    return found


def analysts_one_by_one(labels):
    found = {}
    for identity, (verdict, source, _, _) in one_by_one(labels).items():
        if source != "chargeback":
            continue
        heard = [each for each in labels if each["transaction_id"] == identity and each["verdict"] != "unsure"]
        words = {each["by"]: each["verdict"] for each in heard if each["source"] == "analyst"}
        for by, word in words.items():
            said, against = found.get(by, (0, 0))
            found[by] = (said + 1, against + (word != verdict))
    return found


@given(LABELS)
def test_judged_in_columns_is_judged_one_by_one(labels):
    judged = judge(pa.Table.from_pylist(labels, schema=SCHEMA))
    columns = (
        judged.transaction_ids.to_pylist(), judged.frauds.tolist(), judged.sources.to_pylist(),
        judged.known_at.tolist(), judged.contradicted.tolist(),
    )  # fmt: skip
    found = {i: ("fraud" if fraud else "genuine", *rest) for i, fraud, *rest in zip(*columns, strict=True)}
    assert found == one_by_one(labels)
    assert judged.analysts == analysts_one_by_one(labels)


@pytest.mark.parametrize("wrong", [{"maturity_days": -1}, {"unknown_max": 1.5}, {"contradictions_max": -0.1}])
def test_rules_that_mean_nothing_are_refused(wrong):
    with pytest.raises(InvalidRules, match=next(iter(wrong))):
        LabelRules(**wrong)


def test_a_declined_payment_has_a_truth_in_training_only_where_somebody_labelled_it(tmp_path):
    """A fake's scores decline some; a half of those is labelled."""
    bank = KeptBank(tmp_path / "journal")
    rng = random.Random(1)
    at = FIRST * DAY_US
    bank.decide(at + DAY_US - 1, [paid(n, at + n, rng) for n in range(400)])
    declined = [e.transaction.transaction_id for _, e in bank.entries if e.outcome is Outcome.DECLINE]
    assert len(declined) > 5
    told_of = declined[: len(declined) // 2]
    bank.decide(at + 2 * DAY_US, [], [told(n, of, at + DAY_US) for n, of in enumerate(told_of)])
    bank.keep()
    (tmp_path / "step").mkdir()
    cut_off = at + 9 * DAY_US
    archive(tmp_path / "step", archive=None, journal=bank.folder, cut_off_us=cut_off, cache=tmp_path / "blocks")
    sources = open_sources(tmp_path / "step")
    judged = judge(sources.labels(cut_off))
    train = truths_of(sources, judged, FIRST, cut_off, 7, "train")
    assert set(train.truths["transaction_id"].to_pylist()) & set(declined) == set(told_of)
    assert (train.declined, train.young, train.frauds) == (len(declined) - len(told_of), 0, len(told_of))
    test = truths_of(sources, judged, FIRST, cut_off, 7, "test")
    assert set(test.truths["transaction_id"].to_pylist()) & set(declined) == set()
    assert test.declined == len(declined)


def test_who_is_let_through_stands_in_the_test_for_those_who_were_not(tmp_path):
    bank = KeptBank(tmp_path / "journal")
    bank.state.policy = Policy(
        version="p2", review_at=0.5, decline_at=0.6, sample_per_mille=100, sample_salt="a salt of sixteen"
    )
    rng = random.Random(2)
    at = FIRST * DAY_US
    bank.decide(at + DAY_US - 1, [paid(n, at + n, rng, amount_minor=100 + n) for n in range(500)])
    bank.keep()
    let_through = {
        e.transaction.transaction_id for _, e in bank.entries if e.outcome is Outcome.REVIEW and e.sample_per_mille
    }
    assert 3 < len(let_through) < 60
    (tmp_path / "step").mkdir()
    archive(tmp_path / "step", archive=None, journal=bank.folder, cut_off_us=at + 9 * DAY_US, cache=tmp_path / "blocks")
    sources = open_sources(tmp_path / "step")
    judged = judge(sources.labels(sources.cut_off_us))
    for use, weight in (("train", 1.0), ("test", 10.0)):
        rows = truths_of(sources, judged, FIRST, sources.cut_off_us, 7, use).truths.to_pylist()
        weights = {each["transaction_id"]: each["weight"] for each in rows}
        assert {weights[each] for each in let_through} == {weight}
        assert {weights[each] for each in weights.keys() - let_through} == {1.0}
    assert sum(weights.values()) == len(weights) + 9 * len(let_through)
