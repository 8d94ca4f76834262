"""The continuous audit's own fold of the journal: histories swept anew, and a sample of accounts compared.

It holds no state of the scorer's: history comes from the archive and the journal's transactions, as the audit's does.
The sample takes whole accounts by a hash of their ids, the same ones on every machine and at every time.
"""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from audit.compare import compare
from audit.models import Versions
from audit.report import Report
from features.declaration import fingerprint
from features.history import Integers
from plumbline.decision import Decision
from plumbline.errors import ModelVersionNotFound
from plumbline.journal import ControlApplied, Entry, LabelApplied
from plumbline.policy import Policy
from streaming.state import State, arrivals
from training.evaluate import Loaded

LOADED_MOST: Final = 4
"""Model versions that are kept in memory; older ones are loaded again when a decision names them."""

Numbered = tuple[int, Decision]


@functools.lru_cache(maxsize=65_536)
def in_sample(account_id: str, one_in: int) -> bool:
    """Whether an account belongs to the sample of one account in so many."""
    digest = hashlib.blake2b(account_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % one_in == 0


class RecentVersions(Versions):
    """Versions of which only those asked for last stay in memory."""

    def loaded(self, version: int) -> Loaded:
        """As `Versions.loaded`."""
        found = super().loaded(version)
        self._loaded[version] = self._loaded.pop(version)
        while len(self._loaded) > LOADED_MOST:
            del self._loaded[next(iter(self._loaded))]
        return found


@dataclass(slots=True)
class Following:
    """The fold: `state` holds the histories and the newest sequence, policies every one that was journaled."""

    state: State
    policies: dict[str, Policy] = field(default_factory=dict)

    def take(self, entries: Sequence[tuple[int, Entry]]) -> tuple[list[Numbered], Integers]:
        """Take journal entries in order; returns the decisions, and their histories int64 [n, measures]."""
        rows: list[Decision | LabelApplied] = []
        decisions: list[Numbered] = []
        places: list[int] = []
        for sequence, entry in entries:
            self.state.sequence = sequence
            if isinstance(entry, Decision):
                places.append(len(rows))
                decisions.append((sequence, entry))
                rows.append(entry)
            elif isinstance(entry, LabelApplied) and entry.effect == "counted":
                rows.append(entry)
            elif isinstance(entry, ControlApplied):
                self.policies[entry.policy.version] = entry.policy
        return decisions, self.state.history.advance(arrivals(rows))[places]


def compare_sample(
    report: Report,
    decisions: Sequence[Numbered],
    history: Integers,
    one_in: int,
    policies: dict[str, Policy],
    versions: Versions,
) -> int:
    """Compare the decisions of the sample and add to the report; returns how many could not be computed again.

    Those are decisions of another declaration, and of model versions whose files are not here.
    """
    sampled = [n for n, (_, each) in enumerate(decisions) if in_sample(each.transaction.account_id, one_in)]
    able = [n for n in sampled if _can_verify(decisions[n][1], versions)]
    compare(report, [decisions[n] for n in able], history[able], np.ones(len(able), np.bool_), policies, versions)
    return len(sampled) - len(able)


def _can_verify(decision: Decision, versions: Versions) -> bool:
    if decision.fingerprint != fingerprint():
        return False
    try:
        if decision.scores:
            versions.loaded(decision.scores[0].model_version)
    except ModelVersionNotFound:
        return False
    return True
