"""The guardrails against chance and planted faults, on simulated counts: false alarms, and how soon each speaks.

    python -m benchmarks.guardrails --json

`false_alarms` is of so many healthy releases whose every rate lies exactly on its rule's limit, the worst that is still
healthy, judged after every account and every call, the run and ten windows; figures' limits are left out, so the
evidence is alone. It must not exceed `bound`: alpha, and three standard deviations of the simulation's own chance.
`clustered_false_alarms` is of releases of a canary that is as good as the champion, through the real fold of journal
entries, with accounts that pay and are attacked in bursts. `NAME_SHARE` is the median number of payments, the canary's
and the champion's, until a planted fault is found with so many of a thousand accounts; -1 where most runs did not.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from plumbline.assignment import Arm, Assignment
from plumbline.decision import Decision, Outcome, Score, Source
from plumbline.journal import Answered, LabelApplied
from plumbline.label import Label
from plumbline.policy import Policy, decide
from plumbline.transaction import Transaction
from release.guardrails import BINS, P99, SLICES_MOST
from release.limits import RULES, Limits, Rule, alpha_of
from release.sequential import log_evidence, needed, share_limit
from release.windows import Fold, Span

ACCOUNTS: Final = 4_000
BEGAN_US: Final = 1_800_000_000_000_000
BATCH: Final = 8
STEP_US: Final = 20_000
LABELS_AFTER: Final = 400
LOOK_EVERY: Final = 40
POLICY: Final = Policy(version="simulated", review_at=0.5, decline_at=0.9)
FAULTS: Final = ("slow", "erring", "shifted", "blind")

Entry = Decision | Answered | LabelApplied


def main() -> int:
    """Run it; exit code 1 when there were more false alarms than the bound says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guardrails", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--releases", type=int, default=4000, help="healthy releases at the limit")
    parser.add_argument("--clustered", type=int, default=100, help="healthy releases with accounts in bursts")
    parser.add_argument("--runs", type=int, default=9, help="of each planted fault")
    asked = parser.parse_args()
    limits = Limits()
    figures: dict[str, float] = {"alpha": limits.alpha, "releases": asked.releases}
    figures["false_alarms"] = false_alarms(asked.releases, limits, np.random.default_rng(1))
    figures["bound"] = bound(asked.releases, limits.alpha)
    figures["clustered_releases"] = asked.clustered
    figures["clustered_false_alarms"] = sum(
        until_found(seed, "", 100, 4_000, limits) is not None for seed in range(asked.clustered)
    )
    for fault in FAULTS:
        for per_mille in (10, 100, 500):
            figures[f"{fault}_{per_mille}"] = power(fault, per_mille, asked.runs, limits)
    if asked.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<26} {value:>12,}")
    return 0 if figures["false_alarms"] <= figures["bound"] else 1


def bound(releases: int, alpha: float) -> float:
    """The most false alarms that so many releases may have: alpha of them, and three standard deviations."""
    return round(releases * alpha + 3 * math.sqrt(releases * alpha * (1 - alpha)), 1)


def false_alarms(releases: int, limits: Limits, draw: np.random.Generator, share: float = 0.1) -> int:
    """How many releases any rule would have stopped, each question's trials being hits with exactly its limit."""
    stopped = np.zeros(releases, np.bool_)
    for rule in RULES:
        for chance, parts, trials in _questions(rule, limits, share):
            alpha = alpha_of(rule, limits) / parts
            for number in range(11):
                span = Span(number, 0)
                length = trials if number == 0 else trials // 10
                hits = np.cumsum(draw.random((releases, length), np.float32) < chance, axis=1, dtype=np.int32)
                stopped |= (hits >= fewest(length, chance, needed(alpha * span.budget))).any(axis=1)
    return int(stopped.sum())


def _questions(rule: Rule, limits: Limits, share: float) -> list[tuple[float, int, int]]:
    """Chance of a hit, parts into which the rule's budget goes, and trials, of each question of a rule."""

    def sides(ratio: float) -> list[float]:
        return [share_limit(share, ratio), 1 - share_limit(share, 1 / ratio)]

    calls = {"errors": limits.error_share, "latency": 1 - P99, "slower": 1 - P99}
    if rule.name in calls:
        return [(calls[rule.name], 1, 1000)]
    if rule.name == "scores":
        return [(chance, 2 * BINS, 300) for chance in sides(limits.score_ratio)] * BINS
    if rule.name == "outcomes":
        return [(chance, 4, 300) for chance in sides(limits.outcome_ratio)] * 2
    if rule.name == "slices":
        return [(chance, 2 * SLICES_MOST, 300) for chance in sides(limits.slice_ratio)] * SLICES_MOST
    ratio = limits.load_ratio if rule.name == "load" else limits.label_ratio
    return [(share_limit(share, ratio), 1, 300)]


def fewest(trials: int, chance: float, wanted: float) -> npt.NDArray[np.int32]:
    """The fewest hits among 1, 2, ... n trials at which the evidence is as wanted; more than n where none are."""
    n = np.arange(1, trials + 1)
    low, high = np.floor(n * chance).astype(np.int64), n + 1
    while (low < high).any():
        middle = (low + high) // 2
        enough = log_evidence(middle, n, chance) >= wanted
        high = np.where(enough & (low < high), middle, high)
        low = np.where(~enough & (low < high), middle + 1, low)
    return np.asarray(low, np.int32)


def power(fault: str, per_mille: int, runs: int, limits: Limits, most: int = 60_000) -> int:
    """Median payments until a fault is found; -1 where it was not found within `most` in half of the runs."""
    found = [until_found(seed, fault, per_mille, most, limits) for seed in range(1000, 1000 + runs)]
    middle = statistics.median_low(most + 1 if each is None else each for each in found)
    return -1 if middle > most else int(middle)


def until_found(seed: int, fault: str, per_mille: int, most: int, limits: Limits) -> int | None:
    """Payments until a canary with a fault is stopped, judged as the guard does; None when it was not."""
    assignment = Assignment(version="simulated", decides=1, arms=(Arm(2, per_mille),), salt=str(seed))
    fold = Fold(assignment, 0, BEGAN_US, limits)
    for sequence, entry in stream(seed, assignment, fault, most):
        fold.take(sequence, entry)
        if sequence % LOOK_EVERY == 0 and any(each.breached for _, each in fold.trials[0].figures(limits, fold.now_us)):
            return fold.decisions
    return None


@dataclass(slots=True)
class _Attack:
    """A run of frauds on one account, by one channel."""

    account: int
    channel: str
    left: int


def stream(
    seed: int, assignment: Assignment, fault: str, payments: int, attacks: float = 0.006
) -> Iterator[tuple[int, Entry]]:
    """Journal entries of simulated payments, numbered; frauds come in runs on an account, so many begin with each."""
    draw = np.random.default_rng(seed)
    fraud_of: dict[int, Decision] = {}
    sequence, attack = 0, _Attack(0, "ecom", 0)
    told: list[tuple[int, LabelApplied]] = []
    habits = draw.normal(-5.0, 1.0, ACCOUNTS)
    for first in range(0, payments, BATCH):
        now_us = BEGAN_US + first * STEP_US
        batch: list[Decision] = []
        failed = fault == "erring" and draw.random() < 0.1
        for number in range(first, first + BATCH):
            if attack.left == 0 and draw.random() < attacks:
                attack = _Attack(
                    int(draw.integers(ACCOUNTS)), str(draw.choice(["ecom", "transfer"])), int(draw.integers(2, 9))
                )
            fraud = attack.left > 0 and draw.random() < 0.6
            attack.left -= fraud
            account = attack.account if fraud else int(draw.integers(ACCOUNTS))
            channel = attack.channel if fraud else str(draw.choice(["pos", "ecom", "transfer", "atm"]))
            logit = habits[account] + draw.normal(0, 1.0) + (6.5 if fraud else 0.0)
            paid = _payment(number, account, channel, int(draw.lognormal(8, 1)), now_us)
            batch.append(_decided(assignment, paid, logit, fault, fraud, failed, draw.normal(0, 0.3), now_us))
            if fraud:
                fraud_of[number] = batch[-1]
        entries: list[Entry] = [*_answers(assignment, batch, fault, failed, draw, now_us), *batch]
        for entry in entries:
            sequence += 1
            yield sequence, entry
            if isinstance(entry, Decision) and (
                entry.outcome is not Outcome.APPROVE or int(entry.transaction.transaction_id) in fraud_of
            ):
                told.append((sequence + LABELS_AFTER, _label(entry, int(entry.transaction.transaction_id) in fraud_of)))
        while told and told[0][0] <= sequence:
            sequence += 1
            yield sequence, told.pop(0)[1]


def _decided(
    assignment: Assignment,
    paid: Transaction,
    logit: float,
    fault: str,
    fraud: bool,
    failed: bool,
    noise: float,
    now: int,
) -> Decision:
    version, route = assignment.routed(paid.account_id)
    if route == "canary" and failed:
        version, route = assignment.decides, "fallback"
    elif route == "canary":
        logit += noise + (1.5 if fault == "shifted" else 0.0)
        logit -= 8.0 if fault == "blind" and fraud and paid.channel == "transfer" else 0.0
    score = 1 / (1 + math.exp(-logit))
    given = Score(version, score)
    outcome, reasons, _ = decide(paid, given, POLICY)
    return Decision(
        transaction=paid, source=Source("transactions", 0, int(paid.transaction_id), now // 1000), history=(),
        fingerprint="", scores=(given,), policy_version=POLICY.version, outcome=outcome,
        reasons=reasons, decided_at=now, assignment=assignment.version, route=route,
    )  # fmt: skip


def _payment(number: int, account: int, channel: str, amount_minor: int, now_us: int) -> Transaction:
    values: dict[str, Any] = {"channel": channel, "country": "DE" if account % 5 else "FR"}
    return Transaction(
        transaction_id=str(number), occurred_at=now_us, account_id=f"account-{account}", merchant_id="m",
        amount_minor=amount_minor, currency="EUR", mcc="5411", **values,
    )  # fmt: skip


def _answers(
    assignment: Assignment, batch: list[Decision], fault: str, failed: bool, draw: np.random.Generator, now_us: int
) -> Iterator[Answered]:
    mine = sum(assignment.routed(each.transaction.account_id)[1] == "canary" for each in batch)
    arm = assignment.arms[0].version if assignment.arms else 0
    for version, role, rows in ((assignment.decides, "champion", BATCH), (arm, "canary", mine)):
        if rows:
            canary = role == "canary"
            micros = int(draw.lognormal(8.3, 0.4)) + (300_000 if canary and fault == "slow" else 0)
            yield Answered(
                version=version, role=role, rows=rows, micros=micros, journaled_at=now_us,  # type: ignore[arg-type]
                failure="error" if canary and failed else "",
            )  # fmt: skip


def _label(decision: Decision, fraud: bool) -> LabelApplied:
    paid = decision.transaction
    return LabelApplied(
        label=Label(
            label_id=f"l{paid.transaction_id}", transaction_id=paid.transaction_id,
            verdict="fraud" if fraud else "genuine", source="analyst", known_at=decision.decided_at,
        ),
        source=None, effect="counted" if fraud else "not_fraud", account_id=paid.account_id,
        merchant_id=paid.merchant_id, occurred_at=paid.occurred_at,
        journaled_at=decision.decided_at + LABELS_AFTER * STEP_US,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
