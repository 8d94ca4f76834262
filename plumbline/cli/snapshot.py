"""`plumbline snapshot`: lists the scorer's snapshots, and verifies that each is what the journal says."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from features.grammar import Declaration
    from plumbline.settings import Settings
    from streaming.state import State
    from streaming.verify import Verified


def snapshot(
    verify: Annotated[
        bool, typer.Option("--verify", help="Load each, and compare it with a state folded from the journal anew.")
    ] = False,
    archive: Annotated[
        Path | None, typer.Option(help="Archive that came before the journal. [default: PLUMBLINE_ARCHIVE]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the scorer's snapshots; with --verify refold the journal and compare; exit 1 when one is bad."""
    from rich.console import Console
    from rich.progress import Progress

    from plumbline.settings import load
    from streaming import verify as work

    settings = load()
    found = work.listed(settings.data_path / "snapshots")
    if verify and found:
        from kafka import TopicPartition

        from plumbline.names import Topic

        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("Fold", total=max(each.sequence for each in found) + 1)
            work.verify(
                found,
                _begin(settings, archive),
                settings.kafka_bootstrap,
                TopicPartition(settings.topic_prefix + Topic.DECISIONS.value, 0),
                settings.remembered_transactions,
                lambda entries: progress.advance(task, entries),
            )
    bad = sum(each.bad for each in found)
    if as_json:
        print(json.dumps({"snapshots": [_facts(each, verify) for each in found], "bad": bad}))
    else:
        for each in found:
            print(_line(each, verify))
    if bad:
        raise typer.Exit(1)


def _begin(settings: "Settings", archive: Path | None) -> "Callable[[Declaration], State]":
    """Makes the state before the journal's first entry: empty, or the one of the archive that the journal names."""
    from kafka import TopicPartition

    from audit.prehistory import archive_of
    from plumbline.names import Topic
    from streaming.beginning import beginning

    partition = TopicPartition(settings.topic_prefix + Topic.DECISIONS.value, 0)
    snapshots = settings.data_path / "snapshots"
    began = beginning(settings.kafka_bootstrap, partition, snapshots, settings.remembered_transactions)
    before = archive_of(began.archive_digest, settings, archive)
    return lambda declaration: began.state(before, declaration)


def _facts(each: "Verified", verified: bool) -> dict[str, Any]:
    manifest = each.manifest
    facts: dict[str, Any] = {"sequence": each.sequence, "place": str(each.place), "bytes": each.bytes}
    if manifest is not None:
        facts |= {"format": manifest.format, "fingerprints": [each.fingerprint for each in manifest.declarations]}
        facts |= {"archive_digest": manifest.archive_digest, "state_sha256": manifest.state_sha256}
    if verified:
        facts["equal"] = not each.bad
    return facts | {"bad": each.bad, "refused": each.refused, "different": each.different}


def _line(each: "Verified", verified: bool) -> str:
    manifest = each.manifest
    said = ""
    if manifest is not None:
        declared = ", ".join(each.fingerprint for each in manifest.declarations)
        said = f", declaration {declared}, archive {manifest.archive_digest or '-'}"
    judged = each.refused or "; ".join(each.different) or ("equal to the journal" if verified else "not verified")
    return f"{each.sequence}: {each.bytes:,} bytes{said}: {judged}"
