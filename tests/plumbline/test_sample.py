"""The let-through sample: whom it takes, that it takes nobody else, and that it speaks for all without bias."""

import itertools
import math
import random
import statistics
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.decision import LET_THROUGH, Decision, Outcome, Score, Source
from plumbline.policy import Policy, VersionThresholds, decide, sample_place
from plumbline.transaction import Transaction
from plumbline.weights import WEIGHT_MOST, inverse_probability, represented

SALT = "a salt of sixteen letters or more"


def paid(number: int, amount_minor: int = 5_000) -> Transaction:
    return Transaction(
        transaction_id=f"t-{number}", occurred_at=1, account_id="a-1", merchant_id="m-1", device_id="d-1",
        amount_minor=amount_minor, currency="EUR", channel="ecom", mcc="5732", country="DE",
    )  # fmt: skip


def sampling(per_mille: int = 50, **changes: Any) -> Policy:
    return Policy(version="p", sample_per_mille=per_mille, sample_salt=SALT, **changes)


SURE = Score(1, 1.0)


@pytest.mark.parametrize("per_mille", [1, 20, 100])
def test_as_many_are_let_through_as_the_policy_says(per_mille: int) -> None:
    count = 20_000
    ruled = [decide(paid(n), SURE, sampling(per_mille)) for n in range(count)]
    assert {each.sample_per_mille for each in ruled} == {per_mille}, "known for those that were not drawn too"
    drawn = [each for each in ruled if each.outcome is Outcome.REVIEW]
    assert {each.reasons for each in drawn} == {(LET_THROUGH,)}
    assert {each.outcome for each in ruled} == {Outcome.REVIEW, Outcome.DECLINE}
    share = per_mille / 1000
    assert abs(len(drawn) - count * share) < 4 * math.sqrt(count * share * (1 - share))


def test_another_salt_draws_others_and_a_larger_share_keeps_whom_the_smaller_one_had() -> None:
    def drawn(policy: Policy) -> set[int]:
        return {n for n in range(20_000) if decide(paid(n), SURE, policy).outcome is Outcome.REVIEW}

    few, more, other = drawn(sampling(20)), drawn(sampling(40)), drawn(sampling(20, replaces=""))
    assert few < more
    assert few == other
    elsewhere = drawn(msgspec.structs.replace(sampling(20), sample_salt=SALT + "!"))
    assert len(few & elsewhere) < 0.1 * len(few)


def test_places_are_even_and_say_nothing_of_each_other() -> None:
    places = [sample_place(SALT, f"t-{n}") for n in range(20_000)]
    deciles = [sum(place // 100 == each for place in places) for each in range(10)]
    assert sum((found - 2_000) ** 2 / 2_000 for found in deciles) < 33, "chi-squared of 9 degrees, 1 in 10,000"
    pairs = sum(one < 100 and other < 100 for one, other in itertools.pairwise(places))
    assert abs(pairs - 200) < 4 * math.sqrt(200)


@given(
    score=st.none() | st.builds(Score, st.integers(1, 3), st.floats(0, 1, width=32)),
    number=st.integers(0, 500),
    amount_minor=st.integers(0, 10_000),
    limit=st.none() | st.integers(0, 10_000),
    lists=st.fixed_dictionaries(
        {
            "declined_accounts": st.frozensets(st.sampled_from(["a-1", "a-2"])),
            "declined_merchants": st.frozensets(st.sampled_from(["m-1", "m-2"])),
            "declined_devices": st.frozensets(st.sampled_from(["d-1", "d-2"])),
            "review_amount_minor": st.none() | st.integers(0, 10_000),
        }
    ),
    version_2=st.floats(0, 2),
)
def test_only_a_decline_by_score_alone_is_let_through(
    score: Score | None, number: int, amount_minor: int, limit: int | None, lists: dict[str, Any], version_2: float
) -> None:
    own = VersionThresholds(version=2, review_at=0.0, decline_at=version_2)
    without = Policy(version="p", review_at=0.1, decline_at=0.5, thresholds=(own,), **lists)
    with_sample = msgspec.structs.replace(
        without, sample_per_mille=100, sample_salt=SALT, sample_amount_max_minor=limit
    )
    transaction = paid(number, amount_minor)
    before, after = decide(transaction, score, without), decide(transaction, score, with_sample)
    by_list = any(each.code.startswith("declined_") for each in before.reasons)
    above = limit is not None and amount_minor > limit
    if before.outcome is Outcome.DECLINE and not by_list and not above:
        assert after.sample_per_mille == 100
        drawn = sample_place(SALT, transaction.transaction_id) < 100
        assert after.outcome is (Outcome.REVIEW if drawn else Outcome.DECLINE)
        assert [each for each in after.reasons if each != LET_THROUGH] == list(before.reasons)
        assert (LET_THROUGH in after.reasons) == drawn
    else:
        assert after == before


@given(st.permutations(range(40)), st.integers(1, 40))
def test_who_is_drawn_does_not_depend_on_order_or_company(order: list[int], size: int) -> None:
    policy = sampling(100)
    alone = {n: decide(paid(n), SURE, policy) for n in range(40)}
    batches = [order[begin : begin + size] for begin in range(0, 40, size)]
    assert {n: decide(paid(n), SURE, policy) for batch in batches for n in batch} == alone


def decided(number: int, score: float, policy: Policy, amount_minor: int = 5_000) -> Decision:
    given = Score(1, score)
    outcome, reasons, sampled = decide(paid(number, amount_minor), given, policy)
    return Decision(
        transaction=paid(number, amount_minor), source=Source("transactions", 0, number, 1), history=(), fingerprint="",
        scores=(given,), policy_version="p", outcome=outcome, reasons=reasons, decided_at=1, sample_per_mille=sampled,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "per_mille", "weight"),
    [
        (Outcome.APPROVE, 0, 1.0), (Outcome.REVIEW, 0, 1.0), (Outcome.DECLINE, 0, 0.0), (Outcome.DECLINE, 100, 0.0),
        (Outcome.REVIEW, 100, 10.0), (Outcome.REVIEW, 1, WEIGHT_MOST),
    ],
)  # fmt: skip
def test_the_weight_of_each_kind_of_decision(outcome: Outcome, per_mille: int, weight: float) -> None:
    assert inverse_probability(outcome, per_mille) == weight


def test_who_stands_for_whom_is_counted() -> None:
    policy = sampling(100, sample_amount_max_minor=10_000, declined_merchants=frozenset({"m-2"}))
    some = [decided(n, 1.0 if n % 2 else 0.0, policy, 20_000 if n % 10 == 1 else 5_000) for n in range(4_000)]
    found = represented(some)
    assert (found.decisions, found.not_stood_for, found.not_stood_for_minor) == (4_000, 400, 400 * 20_000)
    assert found.let_through + found.stood_for == 1_600
    assert found.let_through == sum(each.reasons == (LET_THROUGH,) for each in some) > 100
    assert found.weight_sum == pytest.approx(2_000 + 10 * found.let_through)
    assert found.rows_effective < 2_000 + found.let_through
    cut = represented(some, most=4.0)
    assert cut.clipped == found.let_through
    assert cut.weight_sum == pytest.approx(2_000 + 4 * found.let_through)


def test_a_journal_of_before_the_sample_reads_as_one_without() -> None:
    raw = msgspec.json.decode(msgspec.json.encode(decided(1, 0.0, Policy(version="p"))))
    assert "sample_per_mille" not in raw, "written only where it says something"
    assert msgspec.convert(raw, Decision).sample_per_mille == 0
    old = {"type": "policy", "version": "p", "review_at": 0.1, "decline_at": 0.2, "review_amount_minor": None,
           "declined_accounts": [], "declined_merchants": [], "declined_devices": []}  # fmt: skip
    assert msgspec.convert(old, Policy) == Policy(version="p", review_at=0.1, decline_at=0.2)


# A bank whose declining model knows one of two kinds of fraud. A new model is judged on what became known.

RUNS, PAYMENTS, FRAUDS = 40, 2_500, 0.1


def traffic(seed: int) -> list[tuple[float, float, bool]]:
    """Payments: the deciding model's score, the judged one's, and whether it is fraud."""
    draw = random.Random(seed)
    found = []
    for _ in range(PAYMENTS):
        fraud = draw.random() < FRAUDS
        seen = fraud and draw.random() < 0.7
        deciding = draw.betavariate(8, 2) if seen else draw.betavariate(2, 12)
        judged = draw.betavariate(6, 3) if fraud else draw.betavariate(2, 9)
        found.append((deciding, judged, fraud))
    return found


def recall(rows: list[tuple[float, bool, float]]) -> float:
    """The weighted share of frauds that score 0.5 or more; rows: score, fraud, weight."""
    frauds = sum(weight for _, fraud, weight in rows if fraud)
    return sum(weight for score, fraud, weight in rows if fraud and score >= 0.5) / frauds


def average_precision(rows: list[tuple[float, bool, float]]) -> float:
    """The weighted mean of precision over frauds, as scores fall."""
    caught = taken = total = 0.0
    for _, fraud, weight in sorted(rows, reverse=True):
        taken += weight
        if fraud:
            caught += weight
            total += weight * caught / taken
    return total / caught


@pytest.mark.parametrize("metric", [average_precision, recall], ids=["average_precision", "fraud_found_by_decliner"])
def test_figures_of_labelled_rows_are_biased_and_weighted_ones_are_not(metric: Any) -> None:
    errors: dict[str, list[float]] = {"plain": [], "weighted": []}
    for seed in range(RUNS):
        rows = traffic(seed)
        policy = Policy(version="p", review_at=0.4, decline_at=0.6, sample_per_mille=100, sample_salt=SALT + str(seed))
        judged = 1 if metric is average_precision else 0  # recall is that of the model that declines
        weights = []
        for number, (deciding, _, _) in enumerate(rows):
            outcome, _, sampled = decide(paid(number), Score(1, deciding), policy)
            weights.append(inverse_probability(outcome, sampled))
        labelled = [(row[judged], row[2], weight) for row, weight in zip(rows, weights, strict=True) if weight]
        truth = metric([(row[judged], row[2], 1.0) for row in rows])
        errors["weighted"].append(metric(labelled) - truth)
        errors["plain"].append(metric([(score, fraud, 1.0) for score, fraud, _ in labelled]) - truth)
    mean = {name: statistics.mean(each) for name, each in errors.items()}
    standard = {name: statistics.stdev(each) / math.sqrt(RUNS) for name, each in errors.items()}
    assert abs(mean["plain"]) > 10 * standard["plain"], "what was declined is missing, and it is not like the rest"
    assert abs(mean["weighted"]) < 3 * standard["weighted"], (mean, standard)
    assert abs(mean["weighted"]) < abs(mean["plain"]) / 10
