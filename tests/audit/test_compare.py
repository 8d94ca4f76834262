"""Comparing bit by bit: an honest decision agrees, and each kind of tampering shows in exactly its layer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from audit.compare import SCORER_ROWS, compare
from audit.models import Versions, inputs
from audit.report import SHOWN_MOST, Report
from features.declaration import DECLARATION, FEATURE_NAMES, HISTORY_NAMES, fingerprint
from plumbline.decision import MODEL_UNAVAILABLE, NOT_EXPLAINED, Decision, Outcome, Reason, Score, Source
from plumbline.errors import FingerprintMismatch, ModelVersionNotFound
from plumbline.policy import DEFAULT_POLICY, decide
from plumbline.transaction import Transaction
from streaming.deciding import strongest
from tests.fakes import NOW, payment

RECOMPUTED = ("history", "features", "score", "outcome")
POLICIES = {DEFAULT_POLICY.version: DEFAULT_POLICY}


class SumModel:
    """A stand-in for a loaded version: a plain function of the inputs."""

    declaration = DECLARATION

    def call(self, signature: str, given: dict[str, Any]) -> dict[str, np.ndarray]:
        if signature == "explain":
            spread = np.arange(len(FEATURE_NAMES)) * 7
            return {"effects": ((given["history"][:, :1] + spread) % 101 / 10 - 5).astype(np.float32)}
        assert signature == "transform"
        return {"total": given["history"].sum(axis=1).astype(np.float32), "amount": given["amount_minor"]}

    def score(self, given: dict[str, Any]) -> np.ndarray:
        return ((given["history"].sum(axis=1) + given["amount_minor"]) % 997 / 997).astype(np.float32)


class OneVersion(Versions):
    """Version 1 is the stand-in."""

    def __init__(self) -> None:
        super().__init__(Path("unused"))
        self._loaded[1] = SumModel()  # type: ignore[assignment]


def honest(rows: int) -> tuple[list[tuple[int, Decision]], np.ndarray]:
    """Numbered decisions as a scorer would have made them, and their histories."""
    history = np.random.default_rng(1).integers(0, 1000, (rows, len(HISTORY_NAMES)))
    transactions = [msgspec.convert(payment(n), Transaction) for n in range(rows)]
    given = inputs(transactions, history)
    scores = SumModel().score(given).tolist()
    features = strongest(SumModel().call("explain", given)["effects"], FEATURE_NAMES)
    decisions = []
    for n, (transaction, score) in enumerate(zip(transactions, scores, strict=True)):
        answered = Score(1, score)
        outcome, reasons, _ = decide(transaction, answered, DEFAULT_POLICY)
        decision = Decision(
            transaction=transaction,
            source=Source("transactions", 0, n, NOW // 1000),
            history=tuple(history[n].tolist()),
            fingerprint=fingerprint(),
            scores=(answered,),
            policy_version=DEFAULT_POLICY.version,
            outcome=outcome,
            reasons=reasons + (features[n] if outcome is not Outcome.APPROVE else ()),
            decided_at=NOW,
        )
        decisions.append((n + 10, decision))
    return decisions, history


def compared(decisions: Sequence[tuple[int, Decision]], history: np.ndarray, found: np.ndarray | None = None) -> Report:
    report = Report()
    found = np.ones(len(decisions), np.bool_) if found is None else found
    compare(report, decisions, history, found, POLICIES, OneVersion())
    return report


def of(counts: dict[str, int]) -> dict[str, int]:
    """The layers that `compare` is about."""
    assert all(count == 0 for layer, count in counts.items() if layer not in {*RECOMPUTED, "reasons"})
    return {layer: counts[layer] for layer in RECOMPUTED}


def tampered(at: int, **changes: Any) -> Report:
    decisions, history = honest(20)
    sequence, decision = decisions[at]
    decisions[at] = sequence, msgspec.structs.replace(decision, **changes)
    return compared(decisions, history)


def test_honest_decisions_agree_in_every_layer() -> None:
    report = compared(*honest(20))
    assert of(report.compared) == dict.fromkeys(RECOMPUTED, 20)
    assert report.compared["reasons"] == sum(each.outcome is not Outcome.APPROVE for _, each in honest(20)[0]) > 5
    assert report.decisions == 20
    assert report.policies == {"default": 20}
    assert report.fingerprints == {fingerprint(): 20}
    assert (report.decisions_different, report.differences) == (0, [])
    assert (report.first_sequence, report.last_sequence) == (10, 29)


def test_a_changed_history_integer_shows_in_the_history_with_both_bits() -> None:
    decisions, _ = honest(20)
    values = list(decisions[4][1].history)
    values[2] += 1
    report = tampered(4, history=tuple(values))
    first = report.differences[0]
    assert (first.layer, first.name, first.sequence) == ("history", HISTORY_NAMES[2], 14)
    assert first.journaled == f"0x{values[2]:016x} ({values[2]})"
    assert first.recomputed == f"0x{values[2] - 1:016x} ({values[2] - 1})"
    assert of(report.different) == {"history": 1, "features": 1, "score": 0, "outcome": 0}


def test_a_score_that_is_one_ulp_off_shows_in_the_score_alone() -> None:
    value = honest(20)[0][3][1].scores[0].value
    off = float(np.nextafter(np.float32(value), np.float32(0)))
    report = tampered(3, scores=(Score(1, off),))
    assert of(report.different) == {"history": 0, "features": 0, "score": 1, "outcome": 0}
    assert report.differences[0].journaled != report.differences[0].recomputed


def test_a_changed_outcome_shows_in_the_outcome_alone() -> None:
    was = honest(20)[0][5][1].outcome
    other = Outcome.DECLINE if was is not Outcome.DECLINE else Outcome.APPROVE
    report = tampered(5, outcome=other)
    assert of(report.different) == {"history": 0, "features": 0, "score": 0, "outcome": 1}
    assert (report.differences[0].journaled, report.differences[0].recomputed) == (other.value, was.value)


def test_a_policy_that_the_journal_never_introduced_is_a_difference() -> None:
    report = tampered(6, policy_version="elsewhere")
    assert of(report.different) == {"history": 0, "features": 0, "score": 0, "outcome": 1}
    assert report.differences[0].name == "policy_version"


def test_a_decision_without_a_score_is_counted_apart_and_its_outcome_still_compared() -> None:
    transaction = honest(20)[0][7][1].transaction
    outcome = decide(transaction, None, DEFAULT_POLICY).outcome
    report = tampered(7, scores=(), outcome=outcome, reasons=(MODEL_UNAVAILABLE,))
    assert report.decisions_different == 0
    assert (report.unscored, report.compared["score"], report.compared["outcome"]) == (1, 19, 20)


def test_a_row_that_the_batch_path_does_not_have_is_a_difference() -> None:
    decisions, history = honest(3)
    report = compared(decisions, history, np.array([True, False, True]))
    assert report.different["history"] == 1
    assert report.differences[0].recomputed == "absent"


def test_the_list_of_differences_ends_but_the_count_does_not() -> None:
    decisions, history = honest(SHOWN_MOST + 50)
    report = compared(decisions, history + 1)
    assert sum(each.layer == "history" for each in report.differences) == SHOWN_MOST
    assert report.different["history"] == SHOWN_MOST + 50


def test_every_differing_measure_is_told_and_the_decision_counts_once() -> None:
    values = list(honest(20)[0][2][1].history)
    values[0] += 1
    values[5] -= 1
    report = tampered(2, history=tuple(values))
    told = [each.name for each in report.differences if each.layer == "history"]
    assert told == [HISTORY_NAMES[0], HISTORY_NAMES[5]]
    assert report.different["history"] == 1


def test_a_history_of_another_length_is_told_and_does_not_stop_the_others() -> None:
    report = tampered(2, history=(1, 2, 3))
    first = report.differences[0]
    assert (first.name, first.journaled, first.recomputed) == (
        "measures", "3 numbers", f"{len(HISTORY_NAMES)} numbers",
    )  # fmt: skip
    assert report.different["history"] == 1


def test_the_recomputed_transaction_is_what_score_and_outcome_follow_from() -> None:
    decisions, history = honest(20)
    sequence, decision = decisions[4]
    changed = msgspec.structs.replace(decision.transaction, amount_minor=decision.transaction.amount_minor + 1)
    decisions[4] = sequence, msgspec.structs.replace(decision, transaction=changed)
    parsed = [each.transaction for _, each in honest(20)[0]]
    report = Report()
    compare(report, decisions, history, np.ones(20, np.bool_), POLICIES, OneVersion(), transactions=parsed)
    assert of(report.different) == {"history": 0, "features": 1, "score": 0, "outcome": 0}
    assert [each.name for each in report.differences] == ["amount"]


def test_another_rule_in_the_record_is_a_difference_of_the_outcome() -> None:
    report = tampered(5, reasons=(Reason("rule", "declined_account"), Reason("feature", "amount_log", 0.5)))
    assert of(report.different) == {"history": 0, "features": 0, "score": 0, "outcome": 1}
    was = [each for each in honest(20)[0][5][1].reasons if each.kind != "feature"]
    told = next(each for each in report.differences if each.layer == "outcome")
    assert (told.name, told.journaled) == ("reasons", "declined_account")
    assert told.recomputed == (", ".join(each.code for each in was) or "none")


def alerts(outcome_is_alert: bool = True) -> list[int]:
    """Where among 20 honest decisions alerts stand, or where none do."""
    found = honest(20)[0]
    return [n for n, (_, each) in enumerate(found) if (each.outcome is not Outcome.APPROVE) is outcome_is_alert]


def with_reasons(at: int, *reasons: Reason) -> Report:
    """A decision whose reasons but for those of its rules are others."""
    rules = tuple(each for each in honest(20)[0][at][1].reasons if each.kind != "feature")
    return tampered(at, reasons=(*rules, *reasons))


def features_of(at: int) -> list[Reason]:
    return [each for each in honest(20)[0][at][1].reasons if each.kind == "feature"]


def test_an_effect_that_is_one_ulp_off_shows_in_the_reasons_alone() -> None:
    at = alerts()[2]
    first, *others = features_of(at)
    off = float(np.nextafter(np.float32(first.effect), np.float32(0)))
    report = with_reasons(at, Reason("feature", first.code, off), *others)
    assert of(report.different) == dict.fromkeys(RECOMPUTED, 0)
    (told,) = report.differences
    assert (told.layer, told.name, told.distance_ulps, told.model_version) == ("reasons", first.code, 1, 1)
    assert told.journaled.endswith(f"({np.float32(off)})")


def test_an_effect_that_is_no_float32_shows_whole() -> None:
    at = alerts()[0]
    first, *others = features_of(at)
    (told,) = with_reasons(at, Reason("feature", first.code, 0.1), *others).differences
    assert (told.journaled, told.distance_ulps) == ("0x3fb999999999999a (0.1)", None)


def test_reasons_in_another_order_added_ones_and_left_out_ones_are_differences() -> None:
    at = alerts()[1]
    first, second, *others = features_of(at)
    (told,) = with_reasons(at, second, first, *others).differences
    assert (told.name, told.journaled.split(", ")[:2]) == ("order", [second.code, first.code])
    (told,) = with_reasons(at, second, *others).differences
    assert (told.name, told.journaled) == (first.code, "none")
    (told,) = with_reasons(at, first, first, second, *others).differences
    assert told.name == "order"
    report = with_reasons(at, Reason("feature", "no_such_feature", 9.0), first, second, *others)
    assert [(each.name, each.recomputed) for each in report.differences] == [("no_such_feature", "none")]


def test_a_missing_explanation_is_believed_of_an_alert_and_of_nothing_else() -> None:
    at = alerts()[0]
    report = with_reasons(at, NOT_EXPLAINED)
    assert (report.decisions_different, report.compared["reasons"]) == (0, len(alerts()))
    assert with_reasons(at, NOT_EXPLAINED, features_of(at)[0]).different["reasons"] == 1
    approved = with_reasons(alerts(False)[0], NOT_EXPLAINED)
    assert [(each.layer, each.name) for each in approved.differences] == [("reasons", "not_explained")]
    assert of(approved.different) == dict.fromkeys(RECOMPUTED, 0)


def test_only_an_alert_that_was_scored_can_name_features() -> None:
    at, stray = alerts(False)[0], Reason("feature", "amount_log", 0.5)
    (told,) = with_reasons(at, stray).differences
    assert (told.layer, told.name, told.recomputed) == ("reasons", "amount_log", "none")
    transaction = honest(20)[0][at][1].transaction
    outcome = decide(transaction, None, DEFAULT_POLICY).outcome
    report = tampered(at, scores=(), outcome=outcome, reasons=(MODEL_UNAVAILABLE, stray))
    assert [(each.layer, each.name) for each in report.differences] == [("reasons", "amount_log")]


class Placed(SumModel):
    """A model that breaks the promise: a row's features depend on its place in the batch."""

    def call(self, signature: str, given: dict[str, Any]) -> dict[str, np.ndarray]:
        return (
            {"place": np.arange(len(given["history"]))} if signature == "transform" else super().call(signature, given)
        )


def test_the_two_sides_of_the_features_are_computed_apart() -> None:
    """A transform whose numbers depend on a row's neighbours cannot pass."""
    versions = OneVersion()
    versions._loaded[1] = Placed()  # type: ignore[assignment]
    report = Report()
    decisions, history = honest(SCORER_ROWS + 1)
    compare(report, decisions, history, np.ones(len(decisions), np.bool_), POLICIES, versions)
    assert report.different["features"] == SCORER_ROWS - 1, "all but the two that keep their place"


def test_a_version_of_another_declaration_is_told_for_each_of_its_scores() -> None:
    class Foreign(OneVersion):
        def loaded(self, version: int) -> Any:
            raise FingerprintMismatch("model 1", "f" * 16, fingerprint(), "train anew")

    report = Report()
    decisions, history = honest(5)
    compare(report, decisions, history, np.ones(5, np.bool_), POLICIES, Foreign())
    assert of(report.different) == {"history": 0, "features": 0, "score": 5, "outcome": 0}
    assert report.differences[0].name == "declaration"
    assert report.differences[0].recomputed == "f" * 16


def test_a_version_whose_files_are_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelVersionNotFound, match=r"model version 7 .*bring its files"):
        Versions(tmp_path).loaded(7)
