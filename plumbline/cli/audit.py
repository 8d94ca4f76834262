"""`plumbline audit`: recomputes decisions of the journal by the batch path and compares every bit."""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from audit.report import Report
    from plumbline.settings import Settings


def audit(
    sequence: Annotated[
        str, typer.Option(help="Range of journal sequence numbers, such as 0:5000; open ends too.")
    ] = ":",
    archive: Annotated[
        Path | None, typer.Option(help="Archive that was backfilled before the journal began. [default: as demo's]")
    ] = None,
    models_dir: Annotated[
        Path | None, typer.Option(help="Folder of models. [default: models in the data folder]")
    ] = None,
    record: Annotated[bool, typer.Option(help="Store the result, so that the console's audit light shows it.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Recompute decisions of the journal by the batch path and compare every bit; exit 1 on any difference."""
    from plumbline.cli.quiet import import_tensorflow_quietly
    from plumbline.errors import InvalidSetting, Refused
    from plumbline.settings import load
    from streaming.snapshot import prehistory

    settings = load()
    first, last = _range(sequence)
    digest, until_us = prehistory(settings.data_path / "snapshots")
    if digest and archive is None:
        archive = settings.data_path / "archive"
    from archive.layout import open_archive

    if digest and archive is not None and (found := open_archive(archive).manifest.digest) != digest:
        raise Refused(
            f"archive {archive} has digest {found}, but the snapshots began with {digest}: "
            "name that archive with --archive"
        )
    if archive is not None and not digest:
        raise InvalidSetting("audit", "--archive", str(archive), "no archive: the snapshots here began without one")
    import_tensorflow_quietly()
    from audit.run import Audited
    from audit.run import audit as run

    started_at = time.time_ns() // 1000
    report = run(
        Audited(
            bootstrap=settings.kafka_bootstrap,
            prefix=settings.topic_prefix,
            models=(models_dir or settings.data_path / "models") / settings.model_name,
            archive=archive,
            archive_until_us=until_us,
            first=first,
            last=last,
        ),
        lambda step: print(f"audit: {step}", file=sys.stderr, flush=True),
    )
    if record:
        _record(settings, report, started_at)
    facts = {
        "compared": report.compared["history"],
        "different": report.decisions_different,
        **{f"{layer}_compared": count for layer, count in report.compared.items()},
        **{f"{layer}_different": count for layer, count in report.different.items()},
        "unscored": report.unscored,
        "first_sequence": report.first_sequence,
        "last_sequence": report.last_sequence,
    }
    if as_json:
        print(json.dumps({**facts, "differences": [dataclasses.asdict(each) for each in report.differences]}))
    else:
        for layer, count in report.compared.items():
            print(f"{layer:>8}: {count:,} compared, {report.different[layer]:,} different")
        for each in report.differences:
            print(f"{each.sequence} {each.transaction_id} {each.layer} {each.name}: journaled {each.journaled}, "
                  f"recomputed {each.recomputed}: {each.cause}")  # fmt: skip
    if report.decisions_different:
        raise typer.Exit(1)


def _range(text: str) -> tuple[int, int | None]:
    from plumbline.errors import InvalidSetting

    first, colon, last = text.partition(":")
    if not colon or not (first + "0").isdigit() or not (last + "0").isdigit():
        raise InvalidSetting("audit", "--sequence", text, "A:B with whole numbers, such as 0:5000 or 100:")
    return int(first or 0), int(last) if last else None


def _record(settings: "Settings", report: "Report", started_at: int) -> None:
    from store.audits import record_audit
    from store.engine import open_engine, transaction

    engine = open_engine(settings)
    try:
        with transaction(engine) as session:
            record_audit(
                session,
                started_at=started_at,
                finished_at=time.time_ns() // 1000,
                first_sequence=report.first_sequence or 0,
                last_sequence=report.last_sequence or 0,
                compared=report.compared["history"],
                different=report.decisions_different,
                detail=[dataclasses.asdict(each) for each in report.differences],
            )
    finally:
        engine.dispose()
