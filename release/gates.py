"""What a version must pass before it answers: the parity gate on the newest journaled decisions there are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from features.declaration import DECLARATION
from features.grammar import decode
from plumbline.decision import Decision
from plumbline.errors import InvalidDeclaration
from release.carrying import Gate
from release.journaled import kept_decisions, made_rows, newest_decisions, rows_of
from serving.client import ModelClient


def parity_gate(
    models: Path, client: ModelClient, bootstrap: str, prefix: str, *, kept: Path | None = None, few: bool = False
) -> Gate:
    """A gate that scores journaled decisions by files and by server; see `release.parity`.

    models: folder of the versions; kept: a kept journal to take the decisions from, instead of the broker's; few:
    whether fewer than 1,000 will do. Where there is no decision yet, rows that nobody paid are compared. The decisions
    are read, and TensorFlow is loaded, when it is first asked.
    """
    decisions: list[Decision] = []

    def gate(version: int) -> dict[str, Any]:
        from release.parity import LEAST, ROWS, compare, require
        from training.files import declaration_of

        if not decisions:
            decisions.extend(newest_decisions(bootstrap, prefix, ROWS) if kept is None else kept_decisions(kept, ROWS))
        folder = models / str(version)
        source = "made" if not decisions else "journal" if kept is None else "kept journal"
        if decisions:
            rows = rows_of(decisions, declaration_of(folder), _measures(models))
        else:  # the first version of all, before the first payment
            rows = made_rows(declaration_of(folder), LEAST)
        found = compare(folder, version, rows, client)
        require(found, few=few)
        facts: dict[str, Any] = msgspec.to_builtins(found)
        return facts | {"source": source}

    return gate


def _measures(models: Path) -> Mapping[str, Sequence[str]]:
    """Names of the measures of every declaration that is known here, by fingerprint."""
    found = {DECLARATION.fingerprint: DECLARATION.history_names}
    for file in models.glob("*/assets.extra/declaration.json"):
        try:
            declared = decode(file.read_bytes())
        except (OSError, InvalidDeclaration):
            continue  # of a version that nobody asked about; whoever does hears of it
        found[declared.fingerprint] = declared.history_names
    return found
