"""An experiment in figures: what became of the accounts of each arm, and whether it is over.

An account is dealt to an arm by a hash of the experiment's name and its id, so it can be told for every account ever
after; a decision that fell back to the champion counts for the arm that had the account.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from plumbline.assignment import PER_MILLE, Arm, Assignment
from plumbline.decision import Outcome
from release.stopping import ArmCounts, Stop, judge_experiment
from store.arms import labelled_since
from store.model_tables import ModelExperiment


@dataclass(frozen=True, slots=True)
class Standing:
    """The champion's counts, each arm's, and what the stop rule says of them."""

    champion: ArmCounts
    arms: list[ArmCounts]
    stop: Stop

    def facts(self) -> dict[str, Any]:
        """As JSON, for the record of why an experiment was stopped."""
        return {
            "sides": [
                {"version": each.version, "per_mille": each.per_mille, "caught": each.caught, "missed": each.missed,
                 "false_alerts": each.false_alerts}
                for each in (self.champion, *self.arms)
            ],
            "verdict": self.stop.verdict, "version": self.stop.version, "because": self.stop.because,
            "evidence": self.stop.evidence, "needed": self.stop.needed,
        }  # fmt: skip


def standing(session: Session, experiment: ModelExperiment) -> Standing:
    """How an experiment stands by the labels that the ledger stored of decisions since it began."""
    arms = {int(version): share for version, share in sorted(experiment.arms.items())}
    dealt = Assignment(
        version=experiment.name, decides=experiment.champion, kind="experiment", salt=experiment.name,
        arms=tuple(Arm(version, share) for version, share in arms.items()),
    )  # fmt: skip
    accounts: dict[tuple[int, str], set[str]] = defaultdict(set)
    for account, outcome, verdict in labelled_since(session, experiment.started_at, experiment.stopped_at):
        alerted = outcome != Outcome.APPROVE.value
        if verdict == "fraud":
            accounts[dealt.routed(account)[0], "caught" if alerted else "missed"].add(account)
        elif verdict == "genuine" and alerted:
            accounts[dealt.routed(account)[0], "false_alerts"].add(account)

    def side(version: int, per_mille: int) -> ArmCounts:
        found = {name: len(accounts[version, name]) for name in ("caught", "missed", "false_alerts")}
        return ArmCounts(version, per_mille, **found)

    champion = side(experiment.champion, PER_MILLE - sum(arms.values()))
    sides = [side(version, share) for version, share in arms.items()]
    return Standing(champion, sides, judge_experiment(champion, sides))
