"""One assignment under judgement: its fold, its figures over time, and what was found faulty in it."""

from dataclasses import dataclass, field

from plumbline.assignment import Assignment
from plumbline.decision import Decision
from plumbline.journal import Answered, LabelApplied
from release.guardrails import Figure, closest
from release.incidents import Series, incident_row, next_look, trial_row
from release.limits import Limits
from release.rollback import told
from release.windows import Fold, Span, Trial
from store import guard_tables as tables


@dataclass(frozen=True, slots=True)
class Judged:
    """A trial that broke a rule: by which figure, of which span."""

    judging: "Judging"
    trial: Trial
    span: Span
    figure: Figure


@dataclass(slots=True)
class Judging:
    """Looks come once a second of the journal's time, later less often, and whenever the process asks.

    faulty: versions that broke a rule, once and for all; why: of the first, in words and figures.
    """

    assignment: Assignment
    sequence: int
    began_us: int
    limits: Limits
    fold: Fold = field(init=False)
    faulty: list[int] = field(default_factory=list)
    why: str = ""
    newest: int = -1
    _series: dict[int, Series] = field(default_factory=dict)
    _look_us: int = 0
    _looked: int = -1

    def __post_init__(self) -> None:
        self.fold = Fold(self.assignment, self.sequence, self.began_us, self.limits)
        self._series = {trial.version: Series() for trial in self.fold.trials}
        self._look_us = next_look(self.began_us, self.began_us)

    def take(self, sequence: int, entry: Decision | Answered | LabelApplied) -> list[Judged]:
        """Count an entry; returns what a look found, where one was due."""
        self.fold.take(sequence, entry)
        self.newest = sequence
        if self.fold.now_us < self._look_us:
            return []
        self._look_us = next_look(self.began_us, self.fold.now_us)
        return self.look()

    def look(self) -> list[Judged]:
        """Judge every trial as of now; returns those that broke a rule for the first time."""
        if self._looked == self.newest:
            return []
        self._looked, found = self.newest, []
        for trial in self.fold.trials:
            figures = trial.figures(self.limits, self.fold.now_us)
            self._series[trial.version].add(self.fold.now_us, figures)
            broken = [(span, each) for span, each in figures if each.breached]
            if broken and trial.version not in self.faulty:
                span, worst = max(broken, key=lambda pair: pair[1].evidence - pair[1].needed)
                found.append(self._faulty(trial, span, worst))
        return found

    def removed(self, rollback: Assignment) -> list[Judged]:
        """The trials that a rollback of ours took out, where no look found why: what is closest to its alarm is shown.

        It happens where SQL was away when a rule broke, and the same entries were read again in other chunks.
        """
        if self.faulty:
            return []
        found = []
        for trial in self.fold.trials:
            run = [each for span, each in trial.figures(self.limits, self.fold.now_us) if span.number == 0]
            if trial.version not in rollback.versions and run:
                worst = max(closest(run), key=lambda each: each.evidence - each.needed)
                found.append(self._faulty(trial, trial.run, worst))
        return found

    def known(self, version: int, why: str) -> None:
        """Take over from SQL that a version was found faulty before."""
        self.faulty.append(version)
        self.why = self.why or why

    def _faulty(self, trial: Trial, span: Span, figure: Figure) -> Judged:
        self.faulty.append(trial.version)
        self.why = self.why or told(trial.version, trial.role, figure)
        return Judged(self, trial, span, figure)

    def incident(self, judged: Judged, now_us: int) -> tables.Incident:
        """The incident of a trial that broke a rule, with its picture."""
        series = self._series[judged.trial.version]
        return incident_row(self.fold, judged.trial, judged.span, judged.figure, series, self.newest, now_us)

    def rows(self, now_us: int) -> list[tables.Trial]:
        """What each trial came to so far, for SQL."""
        return [
            trial_row(
                self.fold, trial, trial.figures(self.limits, self.fold.now_us),
                "breached" if trial.version in self.faulty else "watching", now_us,
            )
            for trial in self.fold.trials
        ]  # fmt: skip
