"""`plumbline prepare`: makes ready the history that a model version of another declaration needs, beside the stream."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer


def prepare(
    declaration: Annotated[
        Path,
        typer.Argument(help="The model version's folder (or its assets.extra/declaration.json)."),
    ],
    archive: Annotated[
        Path | None, typer.Option(help="Archive that was backfilled before the journal began. [default: as demo's]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fold archive and journal under a model version's declaration, so that `plumbline assign` can bring it in.

    Called again it goes on from where it ended, which takes a moment: call it once more just before `assign`.
    """
    from kafka import TopicPartition
    from rich.console import Console
    from rich.progress import Progress

    from archive.layout import require_archive
    from plumbline.cli.declaration import read_declaration
    from plumbline.names import Topic
    from plumbline.settings import load
    from streaming import prepared
    from streaming.snapshot import prehistory

    settings = load()
    snapshots = settings.data_path / "snapshots"
    inside = declaration / "assets.extra" / "declaration.json"
    declared = read_declaration(inside if declaration.is_dir() else declaration)
    digest, until_us = prehistory(snapshots)
    opened = require_archive(archive or settings.data_path / "archive", digest) if digest else None
    begun = time.monotonic()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Prepare", total=None)
        state = prepared.prepare(
            settings.kafka_bootstrap,
            TopicPartition(settings.topic_prefix + Topic.DECISIONS.value, 0),
            snapshots,
            declared,
            archive=opened,
            until_us=until_us,
            remembered=settings.remembered_transactions,
            tell=lambda rows: progress.advance(task, rows),
        )
    facts = {
        "fingerprint": declared.fingerprint,
        "sequence": state.sequence,
        "accounts": len(state.entities.keys["account"]),
        "transactions": len(state.known),
        "seconds": round(time.monotonic() - begun, 3),
    }
    print(json.dumps(facts) if as_json else ", ".join(f"{name}: {value}" for name, value in facts.items()))
