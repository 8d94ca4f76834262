"""`plumbline backfill`: an archive becomes the scorer's first snapshot."""

import json
from pathlib import Path
from typing import Annotated

import typer


def backfill(
    archive: Annotated[Path, typer.Option(help="Folder of the archive.")],
    until: Annotated[str | None, typer.Option(help="Only arrivals before this UTC day, such as 2018-08-08.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fold an archive into the scorer's first snapshot."""
    import datetime

    from rich.console import Console
    from rich.progress import Progress

    from archive.layout import verified_archive
    from plumbline.errors import InvalidSetting
    from plumbline.settings import load
    from streaming import backfill as work

    settings = load()
    until_us = None
    if until is not None:
        try:
            day = datetime.datetime.strptime(until, "%Y-%m-%d").replace(tzinfo=datetime.UTC)
        except ValueError as error:
            raise InvalidSetting("backfill", "--until", until, "a day such as 2018-08-08") from error
        until_us = int(day.timestamp()) * 1_000_000
    opened = verified_archive(archive)
    total = opened.manifest.rows + opened.manifest.labels
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Backfill", total=total)
        state = work.backfill(
            opened,
            settings.data_path / "snapshots",
            until_us=until_us,
            remembered=settings.remembered_transactions,
            tell=lambda rows: progress.advance(task, rows),
        )
    facts = {
        "transactions": len(state.known),
        "accounts": len(state.history.entities.keys["account"]),
        "merchants": len(state.history.entities.keys["merchant"]),
        "devices": len(state.history.entities.keys["device"]),
        "archive_digest": state.archive_digest,
    }
    if as_json:
        print(json.dumps(facts))
    else:
        print(", ".join(f"{name}: {value}" for name, value in facts.items()))
