"""How often the gate refuses a candidate that is just as good, and how often it lets a worse one pass.

    python -m benchmarks.gate --json
    python -m benchmarks.gate --windows 400 --rows 20000 --json

Windows of payments are simulated, each anew: every account has a taste for risk of its own, so that its payments
resemble one another, and frauds are drawn from probabilities that no model sees. A model sees their log-odds through
noise of its own. Champion and an equal candidate see through as much noise; a worse one through more, or is blind in
one channel, or believes every payment to be riskier than it is. Keys: `refused_KIND`, the share of windows in which
the gate refused; `ap_lost_KIND`, the average precision that the kind lost on average; `refusals_KIND`, by check;
`seconds_500k`, CPU seconds of one judgement of 500,000 rows by 500 resamples.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from plumbline.transaction import DAY_US
from retrain.gate import Gate, Side, judge
from retrain.gate_limits import Limits
from training.costs import Costs, choose
from training.metrics import ScoredRows

Float64 = npt.NDArray[np.float64]

NOISE: Final = 0.8
FIRST_DAY: Final = 18_000
DAYS: Final = 14


@dataclass(frozen=True, slots=True)
class Window:
    """Simulated payments: the log-odds that drew the frauds, and everything but scores."""

    logits: Float64
    rows: ScoredRows


def window(rows: int, seed: int) -> Window:
    """Payments of 14 days, 15 of each account on average, about one in a hundred fraud."""
    random = np.random.default_rng(seed)
    accounts = random.integers(0, max(1, rows // 15), rows)
    taste = random.normal(0, 1.2, rows // 15 + 1)
    logits = random.normal(-7.2, 2.2, rows) + taste[accounts]
    frauds = random.random(rows) < _probability(logits)
    return Window(
        logits,
        ScoredRows(
            transaction_ids=np.arange(rows), occurred_at=FIRST_DAY * DAY_US + random.integers(0, DAYS * DAY_US, rows),
            accounts=accounts, scores=np.zeros(rows, np.float32), frauds=frauds,
            amounts_minor=np.exp(random.normal(8.5, 1, rows)).astype(np.int64),
            channels=random.choice(["pos", "ecom", "atm"], rows, p=[0.5, 0.35, 0.15]),
            countries=random.choice(["FR", "DE", "IT"], rows), new_accounts=random.random(rows) < 0.1,
        ),
    )  # fmt: skip


def seen(of: Window, noise: float, seed: int) -> Float64:
    """The log-odds as a model sees them: shrunk as far as its noise makes them uncertain, so that it is calibrated."""
    given = of.logits + np.random.default_rng(seed).normal(0, noise, len(of.logits))
    spread = float(np.var(of.logits))
    return np.asarray((given * spread + noise**2 * np.mean(of.logits)) / (spread + noise**2))


def side(of: Window, logits: Float64, costs: Costs) -> Side:
    """A model that gives these log-odds, with thresholds of its own."""
    rows = replace(of.rows, scores=_probability(logits).astype(np.float32))
    return Side(rows, choose(rows, costs))


Kind = Callable[[Window, int], Float64]


def _blind(of: Window, seed: int) -> Float64:
    logits = seen(of, NOISE, seed)
    channels: Any = of.rows.channels
    return np.where(channels == "atm", np.mean(logits[channels == "atm"]), logits)


KINDS: Final[dict[str, Kind]] = {
    "equal": lambda of, seed: seen(of, NOISE, seed),
    "better": lambda of, seed: seen(of, 0.5 * NOISE, seed),
    "slightly_worse": lambda of, seed: seen(of, 1.25 * NOISE, seed),
    "worse": lambda of, seed: seen(of, 1.6 * NOISE, seed),
    "much_worse": lambda of, seed: seen(of, 2.2 * NOISE, seed),
    "blind_in_a_channel": _blind,
    "twice_too_high": lambda of, seed: seen(of, NOISE, seed) + np.log(2),
}


def simulate(windows: int, rows: int, limits: Limits, seed: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """The figures of every kind over so many windows."""
    costs = Costs()
    found: dict[str, Any] = {}
    for kind, model in KINDS.items():
        refused, by_check, lost = 0, Counter[str](), 0.0
        for number in range(windows):
            of = window(rows, seed + 1000 * number)
            champion = side(of, seen(of, NOISE, seed + 1000 * number + 1), costs)
            gate = judge(side(of, model(of, seed + 1000 * number + 2), costs), champion, limits, costs, seed=number)
            refused += not gate.passed
            by_check.update({each.name for each in gate.refusals})
            lost += _ap(gate, "champion") - _ap(gate, "candidate")
        found[f"refused_{kind}"] = refused / windows
        found[f"ap_lost_{kind}"] = round(lost / windows, 4)
        found[f"refusals_{kind}"] = {name: count / windows for name, count in sorted(by_check.items())}
        tell(f"{kind}: refused {refused} of {windows}, average precision lost {lost / windows:.4f}, {dict(by_check)}")
    return found


def seconds(rows: int, limits: Limits, seed: int) -> float:
    """CPU seconds of one judgement."""
    costs = Costs()
    of = window(rows, seed)
    sides = [side(of, seen(of, NOISE, seed + each), costs) for each in (1, 2)]
    began = time.process_time()
    judge(sides[0], sides[1], limits, costs, seed=seed)
    return time.process_time() - began


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate", description=__doc__)
    parser.add_argument("--windows", type=int, default=200, help="windows of each kind")
    parser.add_argument("--rows", type=int, default=20_000, help="payments of a window")
    parser.add_argument("--resamples", type=int, default=300, help="resamples of each judgement")
    parser.add_argument("--seed", type=int, default=1, help="seed of everything random")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    options = parser.parse_args()

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    found: dict[str, Any] = {"windows": options.windows, "rows": options.rows}
    found |= simulate(options.windows, options.rows, Limits(resamples=options.resamples), options.seed, tell)
    found["seconds_500k"] = round(seconds(500_000, Limits(resamples=500), options.seed), 2)
    print(json.dumps(found, indent=None if options.json else 2))
    return 0


def _ap(gate: Gate, name: str) -> float:
    return gate.metrics[name]["ap"]["value"] or 0.0


def _probability(logits: Float64) -> Float64:
    return 1 / (1 + np.exp(-logits))


if __name__ == "__main__":
    sys.exit(main())
