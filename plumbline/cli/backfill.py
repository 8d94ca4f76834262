"""`plumbline backfill`: the journal begins after an archive, which becomes the scorer's first snapshot."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def backfill(
    archive: Annotated[Path | None, typer.Option(help="Folder of the archive. [default: PLUMBLINE_ARCHIVE]")] = None,
    until: Annotated[str | None, typer.Option(help="Only arrivals before this UTC day, such as 2018-08-08.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Begin the journal with an archive: fold it into a first snapshot, and name it in the journal's first entry.

    Run it after `plumbline topics` and before the scorer is started for the first time. Where the journal names this
    archive already, the snapshot alone is made again.
    """
    import datetime
    import time

    from rich.console import Console
    from rich.progress import Progress

    from archive.layout import verified_archive
    from plumbline.errors import InvalidSetting
    from plumbline.settings import load
    from streaming import beginning as work

    settings = load()
    until_us = None
    if until is not None:
        try:
            day = datetime.datetime.strptime(until, "%Y-%m-%d").replace(tzinfo=datetime.UTC)
        except ValueError as error:
            raise InvalidSetting("backfill", "--until", until, "a day such as 2018-08-08") from error
        until_us = int(day.timestamp()) * 1_000_000
    opened = verified_archive(archive or settings.archive_path)
    total = opened.manifest.rows + opened.manifest.labels
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Backfill", total=total)
        state = work.backfill(
            opened,
            settings.data_path / "snapshots",
            settings.kafka_bootstrap,
            settings.topic_prefix,
            until_us=until_us,
            remembered=settings.remembered_transactions,
            now_us=time.time_ns() // 1000,
            tell=lambda rows: progress.advance(task, rows),
        )
    if archive is not None and archive.resolve() != settings.archive_path.resolve():
        print(
            f"the scorer looks for this archive in {settings.archive_path} when it has no snapshot: "
            f"set PLUMBLINE_ARCHIVE={archive.resolve()} for it",
            file=sys.stderr,
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
