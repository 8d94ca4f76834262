"""What guardrails are functions of: counts of one guarded version beside the champion's, of one span of the journal."""

import bisect
from dataclasses import dataclass, field
from typing import Final, NamedTuple

SCORE_EDGES: Final = (0.000001, 0.00001, 0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
"""Fixed bins of scores: what is far apart in odds, or on two sides of a usual threshold, is told apart."""

AMOUNT_EDGES: Final = (500, 2_000, 10_000, 50_000)
"""Bands of amounts, in minor units: below the first edge, from each edge on."""

CALL_EDGES: Final = tuple(100 * 1.1**n for n in range(140))
"""Bins of a call's microseconds, a tenth apart, from 0.1 ms to a minute."""

COUNTRIES_MOST: Final = 8
"""Countries with a slice of their own, those that come first; the others share one."""


class Pair(NamedTuple):
    """A count of the guarded version and the champion's beside it."""

    mine: int = 0
    champions: int = 0

    def added(self, mine: bool) -> "Pair":
        """One more."""
        return Pair(self.mine + mine, self.champions + (not mine))

    @property
    def both(self) -> int:
        """The sum."""
        return self.mine + self.champions


@dataclass(slots=True)
class Calls:
    """Calls of one version: how many, failed, slower than the limit, slower than the champion's; micros by bin."""

    asked: int = 0
    failed: int = 0
    slow: int = 0
    slower: int = 0
    micros: list[int] = field(default_factory=lambda: [0] * (len(CALL_EDGES) + 1))

    def add(self, failed: bool, micros: int, slow_us: float, slower_us: float) -> None:
        """One more call; slow_us, slower_us: from where on it was slow, and slow beside the champion's."""
        self.asked += 1
        self.failed += failed
        self.slow += micros > slow_us
        self.slower += micros > slower_us
        self.micros[bisect.bisect_left(CALL_EDGES, micros)] += 1

    def percentile_us(self, share: float) -> float | None:
        """Upper edge of the bin in which this share of the calls is reached; None before the first call."""
        wanted, seen = share * self.asked, 0
        for place, count in enumerate(self.micros):
            seen += count
            if count and seen >= wanted:
                return CALL_EDGES[min(place, len(CALL_EDGES) - 1)]
        return None


@dataclass(slots=True)
class Counts:
    """A span's counts. Keys are such as `review`, `score 3`, `alert channel ecom`, `caught`.

    rows: decisions by key; accounts: distinct accounts of which a decision had the key, each counted for the side that
    had it first: an account is dealt to a side once, by a hash, so accounts are independent where payments are not.
    """

    calls: Calls = field(default_factory=Calls)
    champion_calls: Calls = field(default_factory=Calls)
    rows: dict[str, Pair] = field(default_factory=dict)
    accounts: dict[str, Pair] = field(default_factory=dict)
    seconds: float = 0.0

    def row(self, key: str) -> Pair:
        """Decisions with a key."""
        return self.rows.get(key, Pair())

    def account(self, key: str) -> Pair:
        """Accounts with a key."""
        return self.accounts.get(key, Pair())

    def rate(self, key: str, of: str = "all") -> tuple[float | None, float | None]:
        """Share of the rows of a key among those of another, of both sides; None where there are none."""
        hit, all_rows = self.row(key), self.row(of)
        return (
            hit.mine / all_rows.mine if all_rows.mine else None,
            hit.champions / all_rows.champions if all_rows.champions else None,
        )

    def scores(self) -> tuple[list[int], list[int]]:
        """Decisions by bin of scores: the version's and the champion's."""
        pairs = [self.row(f"score {place}") for place in range(len(SCORE_EDGES) + 1)]
        return [each.mine for each in pairs], [each.champions for each in pairs]


def score_bin(score: float) -> int:
    """The bin of a score, 0 to 10."""
    return bisect.bisect_right(SCORE_EDGES, score)


def amount_band(amount_minor: int) -> int:
    """The band of an amount, 0 to 4."""
    return bisect.bisect_right(AMOUNT_EDGES, amount_minor)
