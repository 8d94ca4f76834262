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
        Path | None, typer.Option(help="Archive that came before the journal. [default: PLUMBLINE_ARCHIVE]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fold archive and journal under a model version's declaration, so that `plumbline assign` can bring it in.

    Called again it goes on from where it ended, which takes a moment: call it once more just before `assign`.
    """
    from kafka import TopicPartition
    from rich.console import Console
    from rich.progress import Progress

    from archive.layout import open_archive
    from audit.prehistory import archive_of
    from plumbline.cli.declaration import read_declaration
    from plumbline.names import Topic
    from plumbline.settings import load
    from streaming import prepared
    from streaming.beginning import beginning

    settings = load()
    snapshots = settings.data_path / "snapshots"
    inside = declaration / "assets.extra" / "declaration.json"
    declared = read_declaration(inside if declaration.is_dir() else declaration)
    partition = TopicPartition(settings.topic_prefix + Topic.DECISIONS.value, 0)
    began = beginning(settings.kafka_bootstrap, partition, snapshots, settings.remembered_transactions)
    before = archive_of(began.archive_digest, settings, archive)
    begun = time.monotonic()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Prepare", total=None)
        state = prepared.prepare(
            settings.kafka_bootstrap,
            partition,
            snapshots,
            declared,
            archive=None if before is None else open_archive(before),
            until_us=began.archive_until_us,
            remembered=began.remembered,
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
