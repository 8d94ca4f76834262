"""The continuous audit's own fold of the journal: histories swept anew, and a sample of accounts compared.

It holds no state of the scorer's: history comes from the archive and the journal's transactions, as the audit's does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from audit.causes import explain
from audit.compare import Recomputed, compare, compare_shadow
from audit.models import Versions
from audit.provenance import Provenance, named, tag
from audit.report import Difference, Report
from audit.routes import Routes, Told
from audit.selection import Sample
from audit.shadowed import Row, Shadowed
from features.grammar import from_fields
from features.history import Integers
from plumbline.decision import Decision
from plumbline.errors import ModelVersionNotFound
from plumbline.journal import Answered, AssignmentApplied, ControlApplied, Entry, LabelApplied
from plumbline.policy import Policy
from streaming.arrivals import arrivals
from streaming.state import State, Supply
from training.evaluate import Loaded

LOADED_MOST: Final = 4
"""Model versions that are kept in memory; older ones are loaded again when a decision names them."""

Numbered = tuple[int, Decision]


class RecentVersions(Versions):
    """Versions of which only those asked for last stay in memory."""

    def loaded(self, version: int) -> Loaded:
        """As `Versions.loaded`."""
        found = super().loaded(version)
        self._loaded[version] = self._loaded.pop(version)
        while len(self._loaded) > LOADED_MOST:
            del self._loaded[next(iter(self._loaded))]
        return found


@dataclass(frozen=True, slots=True)
class Run:
    """Decisions between two changes of declarations: their histories by declaration, int64 [n, measures] each.

    shadows: in force all the while; answers: of shadows, to these or earlier decisions; wrong: what entries say of
    routes otherwise than they should.
    """

    decisions: list[Numbered]
    histories: dict[str, Integers]
    names: dict[str, tuple[str, ...]]
    shadows: tuple[tuple[int, str], ...] = ()
    answers: list[tuple[int, Answered]] = field(default_factory=list)
    wrong: list[tuple[int, Entry, Told]] = field(default_factory=list)


@dataclass(slots=True)
class Following:
    """The fold: `state` holds the histories and the newest sequence, policies every one that was journaled.

    supply: asked for the history of a declaration that comes into force on the way.
    """

    state: State
    supply: Supply
    policies: dict[str, Policy] = field(default_factory=dict)
    shadowed: Shadowed = field(init=False)
    _routes: Routes = field(init=False)
    _provenance: Provenance = field(init=False)

    def __post_init__(self) -> None:
        self.shadowed = Shadowed(begun=self.state.sequence)
        self._routes = Routes(self.state.assignment, self.state.fingerprints)
        assigned, sequence = self.state.assignment, self.state.sequence
        # Which policy is active is not asked here: only whether the journal has had its first.
        policy = next(iter(self.policies), "" if sequence > 0 else None)
        self._provenance = Provenance(policy, "" if assigned is None else assigned.version, declared=sequence >= 0)

    def take(self, entries: Sequence[tuple[int, Entry]]) -> list[Run]:
        """Take journal entries in order; returns their decisions with recomputed histories."""
        runs: list[Run] = []
        rows: list[tuple[int, Decision | LabelApplied]] = []
        answers: list[tuple[int, Answered]] = []
        wrong: list[tuple[int, Entry, Told]] = []
        for sequence, entry in entries:
            shadows = self._routes.shadows
            account = entry.transaction.account_id if isinstance(entry, Decision) else ""
            wrong += [(sequence, entry, each) for each in self._routes.take(entry, account)]
            why = self._provenance.take(tag(entry), named(entry), from_message=entry.source is not None)
            if why:
                wrong.append((sequence, entry, ("message", "none", why)))
            if isinstance(entry, Decision) or (isinstance(entry, LabelApplied) and entry.effect == "counted"):
                rows.append((sequence, entry))
            elif isinstance(entry, ControlApplied):
                self.policies[entry.policy.version] = entry.policy
            elif isinstance(entry, AssignmentApplied):
                runs.append(self._advance(rows, shadows, answers, wrong))
                rows, answers, wrong = [], [], []
                declared = {name: from_fields(fields) for name, fields in entry.declarations.items()}
                self.state.assign(entry.assignment, entry.fingerprints, declared, sequence, self.supply)
            elif isinstance(entry, Answered) and entry.role == "shadow":
                answers.append((sequence, entry))
            self.state.sequence = sequence
        return [*runs, self._advance(rows, self._routes.shadows, answers, wrong)]

    def _advance(
        self,
        rows: list[tuple[int, Decision | LabelApplied]],
        shadows: tuple[tuple[int, str], ...],
        answers: list[tuple[int, Answered]],
        wrong: list[tuple[int, Entry, Told]],
    ) -> Run:
        places = [n for n, (_, entry) in enumerate(rows) if isinstance(entry, Decision)]
        computed = self.state.advance(arrivals([entry for _, entry in rows]))
        return Run(
            decisions=[(sequence, entry) for sequence, entry in rows if isinstance(entry, Decision)],
            histories={name: history[places] for name, history in computed.items()},
            names={name: each.declaration.history_names for name, each in self.state.histories.items()},
            shadows=shadows,
            answers=answers,
            wrong=wrong,
        )


def compare_sample(
    report: Report,
    run: Run,
    after: int,
    sample: Sample,
    policies: dict[str, Policy],
    versions: Versions,
    shadowed: Shadowed,
) -> int:
    """Compare a run's decisions of the sample and add to the report; returns how many could not be computed again.

    after: only entries behind this sequence; shadowed: the decisions that wait for shadows. Not to be computed again
    are those of a declaration that is not in force by the journal, and of model versions whose files are not here.
    """
    unverified = 0
    by_declaration: dict[str, list[int]] = {}
    for n, (sequence, decision) in enumerate(run.decisions):
        if sequence <= after or not sample.takes(decision.transaction.account_id):
            continue
        if decision.fingerprint in run.histories and _loads(decision, versions):
            by_declaration.setdefault(decision.fingerprint, []).append(n)
        else:
            unverified += 1
    for declared, rows in by_declaration.items():
        pasts = {name: Recomputed(run.names[name], history[rows]) for name, history in run.histories.items()}
        past = pasts.pop(declared)
        compare(
            report, [run.decisions[n] for n in rows], past.history, np.ones(len(rows), np.bool_), policies, versions,
            names=past.names, declared=declared, beside=pasts,
        )  # fmt: skip
    report.add("intake", 0, [_wrong(*each) for each in run.wrong if each[0] > after and _taken(each[1], sample)])
    unverified += _compare_answers(report, run, after, sample, versions, shadowed)
    if report.differences:
        explain(report, list(run.histories), versions.as_exported, versions.same_host)
    return unverified


def _compare_answers(
    report: Report, run: Run, after: int, sample: Sample, versions: Versions, shadowed: Shadowed
) -> int:
    """Compare what shadows said of decisions in the sample; returns how many could not be computed again."""
    for n, (sequence, decision) in enumerate(run.decisions):
        taken = sample.takes(decision.transaction.account_id)
        rows: dict[int, Row | None] = {}
        for version, name in run.shadows if decision.assignment else ():
            row = None
            if taken and name in run.histories:
                history = run.histories[name][n].copy()
                row = Row(sequence, decision, decision.transaction, name, run.names[name], history)
            rows[version] = row
        shadowed.expect(sequence, rows)
    unverified = 0
    found: list[Difference] = []
    for sequence, answer in run.answers:
        answered, wrong = shadowed.take(sequence, answer)
        if sequence <= after:
            continue
        found += wrong
        try:
            compare_shadow(report, answer.version, answered, versions)
        except ModelVersionNotFound:
            unverified += len(answered)
    report.add("intake", 0, [*found, *shadowed.lost()])
    return unverified


def _taken(entry: Entry, sample: Sample) -> bool:
    return not isinstance(entry, Decision) or sample.takes(entry.transaction.account_id)


def _wrong(sequence: int, entry: Entry, told: Told) -> Difference:
    name = entry.transaction.transaction_id if isinstance(entry, Decision) else f"entry {sequence}"
    return Difference(sequence, name, "intake", *told)


def _loads(decision: Decision, versions: Versions) -> bool:
    try:
        for score in decision.scores:
            versions.loaded(score.model_version)
    except ModelVersionNotFound:
        return False
    return True
