"""The audit: a range of the journal, computed again from raw transactions by the batch path, and compared."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from audit.batch_path import history_matrix, recompute_history
from audit.causes import explain
from audit.compare import compare
from audit.models import Versions
from audit.recorded import Numbered, entries, present_end, write_arrivals
from audit.report import Report
from features.declaration import fingerprint
from plumbline.decision import Decision
from plumbline.journal import ControlApplied
from plumbline.policy import Policy


@dataclass(frozen=True, slots=True)
class Audited:
    """What to audit.

    first, last: range of sequence numbers (None: to the present end); archive, archive_until_us: what came before the
    journal; models: base path of the model's versions.
    """

    bootstrap: str
    prefix: str
    models: Path
    archive: Path | None
    archive_until_us: int | None
    first: int = 0
    last: int | None = None


def audit(asked: Audited, tell: Callable[[str], None]) -> Report:
    """Recompute and compare; tell: called with a sentence as each step begins.

    All entries before the range are read too, since history comes from them. Raises ModelVersionNotFound when a
    version's files are gone, BrokerUnavailable, InvalidArchive.
    """
    report = Report()
    # Looked up once: a scorer that goes on meanwhile must not make the second reading longer than the first.
    end = present_end(asked.bootstrap, asked.prefix)
    stop = end if asked.last is None else min(end, asked.last + 1)
    with tempfile.TemporaryDirectory(prefix="plumbline-audit-") as scratch:
        arrivals = Path(scratch, "arrivals")
        arrivals.mkdir()
        policies: dict[str, Policy] = {}
        earliest, latest = 2**62, -1
        tell("reading the journal")
        for number, chunk in enumerate(entries(asked.bootstrap, asked.prefix, 0, stop)):
            write_arrivals(arrivals, number, chunk)
            for _, entry in chunk:
                if isinstance(entry, ControlApplied):
                    policies[entry.policy.version] = entry.policy
            for _, decision in _decisions(chunk, asked.first):
                earliest = min(earliest, decision.transaction.occurred_at)
                latest = max(latest, decision.transaction.occurred_at)
        if latest < 0:
            return report
        tell("computing history by Beam, key by key")
        history = recompute_history(
            asked.archive, asked.archive_until_us, arrivals, Path(scratch, "history"), (earliest, latest + 1)
        )
        tell("comparing")
        versions = Versions(asked.models)
        for chunk in entries(asked.bootstrap, asked.prefix, asked.first, stop):
            decisions = _decisions(chunk, asked.first)
            matrix, found = history_matrix(history, [sequence for sequence, _ in decisions])
            compare(report, decisions, matrix, found, policies, versions)
    explain(report, fingerprint())
    return report


def _decisions(chunk: list[Numbered], first: int) -> list[tuple[int, Decision]]:
    return [(sequence, entry) for sequence, entry in chunk if isinstance(entry, Decision) and sequence >= first]
