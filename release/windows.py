"""The fold that guardrails judge: one assignment's entries of the journal, counted for each version under guard.

Each version is counted over the whole run, and in windows that begin anew: the run finds small faults, a window finds
one that begins late. Nothing here is kept on disk. What was counted is a pure function of the journal from the
assignment on, so a process that is killed folds it again and counts nothing twice.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from plumbline.assignment import PER_MILLE, Assignment
from plumbline.decision import Decision, Outcome
from plumbline.journal import Answered, LabelApplied
from plumbline.transaction import SECOND_US, Transaction
from release.counts import COUNTRIES_MOST, Calls, Counts, Pair, amount_band, score_bin
from release.guardrails import Figure, judge, slower_us
from release.limits import Limits

ACCOUNTS_MOST: Final = 10_000
"""Accounts of a key after which a span counts no more of them: by then the evidence has spoken, or never will."""

REMEMBERED: Final = 200_000
"""Newest decisions whose labels are counted, and against which a shadow's scores are held."""

OTHERS: Final = "others"

STEP_US: Final = 10 * SECOND_US
"""An entry whose time lies so far before the newest was written after the scorer's clock was set back."""


@dataclass(slots=True)
class Span:
    """Counts since a moment; number: 0 for the whole run, 1, 2, 3, ... for windows; began_us: journal's time."""

    number: int
    began_us: int
    counts: Counts = field(default_factory=Counts)
    _seen: dict[str, set[str]] = field(default_factory=dict)

    @property
    def budget(self) -> float:
        """Its part of the alarm budget: half for the run, and for the n-th window 1 / n (n + 1) of the other half."""
        return 0.5 if self.number == 0 else 0.5 / (self.number * (self.number + 1))

    def add(self, keys: Iterable[str], account_id: str, mine: bool) -> None:
        """Count one decision under its keys."""
        counts = self.counts
        for key in keys:
            counts.rows[key] = counts.row(key).added(mine)
            if not key.startswith("all"):
                self.add_account(key, account_id, mine)

    def add_account(self, key: str, account_id: str, mine: bool) -> None:
        """Count an account under a key, for the side that had it first."""
        seen = self._seen.setdefault(key, set())
        if account_id not in seen and len(seen) < ACCOUNTS_MOST:
            seen.add(account_id)
            self.counts.accounts[key] = self.counts.account(key).added(mine)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is remembered of a decision."""

    account_id: str
    version: int
    outcome: Outcome
    score: float | None


@dataclass(slots=True)
class Trial:
    """One version under guard, beside the champion, in one assignment; share: see `guardrails.judge`."""

    version: int
    role: str
    share: float
    run: Span
    window: Span

    @property
    def paired(self) -> bool:
        """Whether it scores what the champion decides."""
        return self.role == "shadow"

    @property
    def spans(self) -> tuple[Span, Span]:
        """The whole run, and the present window."""
        return self.run, self.window

    @property
    def spent(self) -> float:
        """Part of the alarm budget that is used up: what the run and all windows so far have of it."""
        return sum(Span(number, 0).budget for number in range(self.window.number + 1))

    def figures(self, limits: Limits, now_us: int) -> list[tuple[Span, Figure]]:
        """Every figure of the run and of the present window; now_us: journal's time."""
        found = []
        for span in self.spans:
            span.counts.seconds = (now_us - span.began_us) / SECOND_US
            judged = judge(span.counts, limits, self.share, paired=self.paired, budget=span.budget)
            found += [(span, each) for each in judged]
        return found


@dataclass(slots=True)
class Fold:
    """An assignment's trials, and what is remembered to count them.

    now_us: the journal's time: that of the newest entry, and it never goes back. Where the scorer's clock was set back,
    time goes on from where it was; where it was set forward, that counts as time without entries.
    """

    assignment: Assignment
    sequence: int
    began_us: int
    limits: Limits
    trials: list[Trial] = field(default_factory=list)
    decisions: int = 0
    now_us: int = 0
    _set_back_us: int = 0
    _countries: dict[str, str] = field(default_factory=dict)
    _transactions: dict[str, int] = field(default_factory=dict)
    _known: dict[int, _Known] = field(default_factory=dict)
    _champion: Calls = field(default_factory=Calls)

    def __post_init__(self) -> None:
        self.now_us = self.began_us
        taken = sum(arm.per_mille for arm in self.assignment.arms)
        for arm in self.assignment.arms:
            both = arm.per_mille + PER_MILLE - taken
            self._try(arm.version, self.assignment.kind, arm.per_mille / both)
        for version in self.assignment.shadows:
            self._try(version, "shadow", 0.5)

    def _try(self, version: int, role: str, share: float) -> None:
        began = self.began_us
        self.trials.append(Trial(version, role, share, Span(0, began), Span(1, began)))

    def take(self, sequence: int, entry: Decision | Answered | LabelApplied) -> None:
        """Count one entry behind the assignment."""
        at_us = entry.decided_at if isinstance(entry, Decision) else entry.journaled_at
        self._move(at_us)
        if isinstance(entry, Decision):
            self._decided(sequence, entry)
        elif isinstance(entry, Answered):
            self._answered(entry)
        else:
            self._labelled(entry)

    def _move(self, at_us: int) -> None:
        """Let time go on to an entry's, and begin the windows that are due; empty ones are passed over."""
        if at_us + self._set_back_us < self.now_us - STEP_US:
            self._set_back_us = self.now_us - at_us
        self.now_us = max(self.now_us, at_us + self._set_back_us)
        length = self.limits.window_seconds * SECOND_US
        number = (self.now_us - self.began_us) // length + 1
        for trial in self.trials:
            if trial.window.began_us + length <= self.now_us:
                trial.window = Span(trial.window.number + 1, self.began_us + (number - 1) * length)

    def _decided(self, sequence: int, decision: Decision) -> None:
        paid = decision.transaction
        version, _route = self.assignment.routed(paid.account_id)
        score = decision.scores[0].value if decision.scores else None
        self.decisions += 1
        keys = list(self._keys(paid, decision.outcome, score))
        for trial in self.trials:
            if not trial.paired and version in (trial.version, self.assignment.decides):
                for span in trial.spans:
                    span.add(keys, paid.account_id, version == trial.version)
        self._known[sequence] = _Known(paid.account_id, version, decision.outcome, score)
        self._transactions[paid.transaction_id] = sequence
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        if len(self._transactions) > REMEMBERED:
            del self._transactions[next(iter(self._transactions))]

    def _keys(self, paid: Transaction, outcome: Outcome, score: float | None) -> Iterator[str]:
        slices = (
            f"channel {paid.channel}",
            f"country {self._country(paid.country)}",
            f"amount {amount_band(paid.amount_minor)}",
        )
        yield "all"
        yield from (f"all {each}" for each in slices)
        if score is not None:
            yield f"score {score_bin(score)}"
        if outcome is not Outcome.APPROVE:
            yield outcome.value
            yield "alert"
            yield from (f"alert {each}" for each in slices)

    def _country(self, country: str) -> str:
        if country not in self._countries:
            self._countries[country] = country if len(self._countries) < COUNTRIES_MOST else OTHERS
        return self._countries[country]

    def _answered(self, entry: Answered) -> None:
        """Count a call. A version that rests after a failure was not asked: its failure is counted already."""
        if entry.failure == "skipped" or (entry.failure and not entry.micros):
            return
        slow_us, slower = self.limits.latency_ms * 1000, slower_us(self._champion, self.limits)
        failed = entry.failure != ""
        champion = entry.role == "champion"
        if champion:
            self._champion.add(failed, entry.micros, slow_us, slower)
        for trial in self.trials:
            for span in trial.spans:
                if champion:
                    span.counts.champion_calls.add(failed, entry.micros, slow_us, slower)
                elif entry.version == trial.version:
                    span.counts.calls.add(failed, entry.micros, slow_us, slower)
            if trial.paired and entry.version == trial.version:
                self._shadowed(trial, entry)

    def _shadowed(self, trial: Trial, entry: Answered) -> None:
        """Hold a shadow's scores against the champion's of the same rows: accounts count where the bins differ."""
        for sequence, value in zip(entry.sequences, entry.values, strict=False):
            known = self._known.get(sequence)
            if known is None or known.score is None or known.version != self.assignment.decides:
                continue
            theirs, its = f"score {score_bin(known.score)}", f"score {score_bin(value)}"
            for span in trial.spans:
                rows = span.counts.rows
                for key, mine in ((its, True), (theirs, False)):
                    rows[key] = span.counts.row(key).added(mine)
                    if its != theirs:
                        span.add_account(key, known.account_id, mine)
                rows["all"] = Pair(*(each + 1 for each in span.counts.row("all")))

    def _labelled(self, entry: LabelApplied) -> None:
        known = self._known.get(self._transactions.get(entry.label.transaction_id, -1))
        if known is None or entry.label.verdict == "unsure":
            return
        del self._transactions[entry.label.transaction_id]
        alerted, fraud = known.outcome is not Outcome.APPROVE, entry.label.verdict == "fraud"
        if not (alerted or fraud):
            return
        key = ("caught" if fraud else "false alert") if alerted else "missed"
        for trial in self.trials:
            if not trial.paired and known.version in (trial.version, self.assignment.decides):
                for span in trial.spans:
                    span.add([key], known.account_id, known.version == trial.version)
