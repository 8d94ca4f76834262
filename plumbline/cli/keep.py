"""`plumbline keep`: copies the journal, and the messages behind it, into files that outlive the broker's."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def keep(
    to: Annotated[
        Path | None, typer.Option(help="Folder of the kept journal. [default: journal in the data folder]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Copy the journal and its messages into files, going on where the last run ended; run it while messages last."""
    from audit.prehistory import named_archive
    from plumbline.settings import load
    from streaming.keep import keep as run

    settings = load()
    folder = settings.data_path / "journal" if to is None else to
    rows = 0

    def tell(count: int) -> None:
        nonlocal rows
        rows += count
        print(f"keep: {rows:,} records", file=sys.stderr, flush=True)

    kept = run(folder, settings.kafka_bootstrap, settings.topic_prefix, named_archive(settings), tell=tell)
    facts = {
        "folder": str(folder),
        "records": sum(each.records for each in kept.blocks),
        "added": rows,
        "blocks": len(kept.blocks),
        "stop": kept.stop,
        "digest": kept.digest,
    }
    if as_json:
        print(json.dumps(facts))
    else:
        print(f"{folder} holds the journal up to sequence number {kept.stop - 1}; digest {kept.digest}")
