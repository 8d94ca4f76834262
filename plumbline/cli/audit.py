"""`plumbline audit`: recomputes decisions of the journal from raw messages and compares every bit."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from audit.recorded import RecordedJournal
    from audit.report import Report
    from audit.run import Audited
    from plumbline.settings import Settings


def audit(
    sequence: Annotated[
        str, typer.Option(help="Range of journal sequence numbers, such as 0:5000; open ends too.")
    ] = ":",
    since: Annotated[
        str | None, typer.Option(help="Only what was journaled from this UTC day or time on, such as 2026-01-31.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only what was journaled before this UTC day or time.")] = None,
    sample: Annotated[
        str | None, typer.Option(help="Only this share of accounts, such as 1/100: always the same ones.")
    ] = None,
    journal: Annotated[Path | None, typer.Option(help="Folder of `plumbline keep`, read instead of Kafka.")] = None,
    archive: Annotated[
        Path | None, typer.Option(help="Archive that came before the journal. [default: PLUMBLINE_ARCHIVE]")
    ] = None,
    models_dir: Annotated[
        Path | None, typer.Option(help="Folder of models. [default: models in the data folder]")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write a report that can be handed on: one HTML file.")] = None,
    record: Annotated[bool, typer.Option(help="Store the result, so that the console's audit light shows it.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Recompute decisions of the journal from raw messages and compare every bit; exit 1 on any difference."""
    from audit.prehistory import archive_of
    from audit.selection import parse_selection
    from plumbline.cli.quiet import import_tensorflow_quietly
    from plumbline.errors import Refused
    from plumbline.settings import load

    settings = load()
    selection = parse_selection(sequence, since, until, sample)
    if report is not None and not report.absolute().parent.is_dir():
        raise Refused(f"{report} cannot be written: {report.absolute().parent} is no folder")
    if record:
        _require_tables(settings)
    read, prefix, before = _journal(settings, journal)
    past = archive_of(before[0], settings, archive)
    import_tensorflow_quietly()
    from audit.models import Versions
    from audit.page import render
    from audit.run import Audited
    from audit.run import audit as run
    from audit.summary import as_facts, summary

    started_at = time.time_ns() // 1000
    models = (models_dir or settings.data_path / "models") / settings.model_name
    asked = Audited(
        journal=read,
        prefix=prefix,
        versions=Versions(models),
        archive=past,
        archive_until_us=before[1],
        remembered=settings.remembered_transactions,
        selection=selection,
    )
    found = run(asked, lambda step: print(f"audit: {step}", file=sys.stderr, flush=True))
    if journal is None:
        _compare_snapshots(settings, found, asked)
    finished_at = time.time_ns() // 1000
    told = summary(asked, found, before[0], started_at, finished_at)
    if report is not None:
        report.write_text(render(told), encoding="utf-8")
    if as_json:
        print(json.dumps(as_facts(told)))
    else:
        _print(found)
    if record:
        _record(settings, asked, found, started_at, finished_at)
    if found.decisions_different:
        raise typer.Exit(1)


def _journal(settings: "Settings", folder: Path | None) -> "tuple[RecordedJournal, str, tuple[str, int | None]]":
    """The journal, its topics' prefix, and the archive before it: digest ("" for none) and how far it was taken."""
    from archive.kept import KeptJournal
    from audit.prehistory import named_archive
    from audit.recorded import LiveJournal

    if folder is not None:
        journal = KeptJournal(folder)
        return journal, journal.kept.prefix, (journal.kept.archive_digest, journal.kept.archive_until_us)
    live = LiveJournal(settings.kafka_bootstrap, settings.topic_prefix)
    return live, settings.topic_prefix, named_archive(settings)


def _compare_snapshots(settings: "Settings", report: "Report", asked: "Audited") -> None:
    from kafka import TopicPartition

    from audit.snapshots import compare_snapshots
    from plumbline.names import Topic

    compare_snapshots(
        report,
        settings.data_path / "snapshots",
        settings.kafka_bootstrap,
        TopicPartition(asked.prefix + Topic.DECISIONS.value, 0),
        (asked.archive, asked.archive_until_us),
        asked.remembered,
        to_the_end=asked.selection.last is None and asked.selection.until_ms is None,
    )


def _print(report: "Report") -> None:
    for layer, tally in report.layers.items():
        print(f"{layer:>11}: {tally.compared:,} compared, {tally.different:,} different")
    if report.raw_missing:
        print(f"{report.raw_missing:,} messages are kept nowhere any longer: their parsed form stood in for them")
    if report.shadow_rows or report.shadow_failed or report.shadow_waiting:
        print(f"shadows: {report.shadow_rows:,} scores compared, {report.shadow_failed:,} decisions without one, "
              f"{report.shadow_waiting:,} not answered yet")  # fmt: skip
    for each in report.differences:
        print(f"{each.sequence} {each.transaction_id} {each.layer} {each.name}: journaled {each.journaled}, "
              f"recomputed {each.recomputed}: {each.cause}")  # fmt: skip


def _require_tables(settings: "Settings") -> None:
    """Before the work, not behind it: what is found must have somewhere to go. Raises Unready, StoreUnavailable."""
    from store.engine import open_engine
    from store.schema import require_current

    engine = open_engine(settings)
    try:
        require_current(engine)
    finally:
        engine.dispose()


def _record(settings: "Settings", asked: "Audited", report: "Report", started_at: int, finished_at: int) -> None:
    import dataclasses

    from store.audits import record_audit
    from store.engine import open_engine, transaction
    from store.tables import NAME_CHARACTERS

    engine = open_engine(settings)
    try:
        with transaction(engine) as session:
            record_audit(
                session,
                started_at=started_at,
                finished_at=finished_at,
                first_sequence=0 if report.first_sequence is None else report.first_sequence,
                last_sequence=-1 if report.last_sequence is None else report.last_sequence,
                compared=report.decisions,
                different=report.decisions_different,
                raw_missing=report.raw_missing,
                journal=asked.journal.name[:NAME_CHARACTERS],
                sample="" if asked.selection.sample is None else str(asked.selection.sample),
                detail=[dataclasses.asdict(each) for each in report.differences],
            )
    finally:
        engine.dispose()
