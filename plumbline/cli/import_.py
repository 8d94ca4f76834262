"""`plumbline import`: somebody's data set becomes an archive."""

import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from archive.mapping import Mapping

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Bring a data set into the archive layout.")

Folder = Annotated[Path, typer.Argument(help="Folder that holds the set's transactions-*.parquet.", exists=True)]
To = Annotated[Path, typer.Option("--to", help="Folder of the archive to be written.")]
Delay = Annotated[float, typer.Option(help="Days from a fraud until its label becomes known.", min=0, max=3650)]
Since = Annotated[datetime | None, typer.Option(help="Keep transactions from this time on (UTC).")]
Until = Annotated[datetime | None, typer.Option(help="Keep transactions before this time (UTC).")]
Replace = Annotated[bool, typer.Option("--replace", help="Put it in the place of an archive that is there.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def handbook(
    folder: Folder,
    *,
    to: To,
    label_delay_days: Delay = 7,
    since: Since = None,
    until: Until = None,
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Import the simulated transactions of the Fraud Detection Handbook."""
    from archive.mapping import packaged_mapping, with_delay

    mapping = with_delay(packaged_mapping("handbook"), label_delay_days)
    _write(_monthly(folder), mapping, to, since=since, until=until, replace=replace, as_json=as_json)


@app.command()
def sparkov(
    folder: Folder,
    *,
    to: To,
    label_delay_days: Delay = 7,
    since: Since = None,
    until: Until = None,
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Import card transactions of the Sparkov generator."""
    from archive.mapping import packaged_mapping, with_delay

    mapping = with_delay(packaged_mapping("sparkov"), label_delay_days)
    _write(_monthly(folder), mapping, to, since=since, until=until, replace=replace, as_json=as_json)


@app.command("csv")
def csv_(
    files: Annotated[list[Path], typer.Argument(help="CSV files with a header line, or .parquet files.", exists=True)],
    *,
    mapping: Annotated[Path, typer.Option(help="TOML file that says what each column means.", exists=True)],
    to: Annotated[Path | None, typer.Option("--to", help="Folder of the archive to be written.")] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show the first rows as transactions; write nothing.")
    ] = False,
    preview_rows: Annotated[int, typer.Option(help="Rows that --preview shows.", min=1, max=10_000)] = 10,
    since: Since = None,
    until: Until = None,
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Import any CSV or Parquet by a mapping file."""
    from archive.mapping import load_mapping

    rules = load_mapping(mapping)
    if preview:
        _preview(files, rules, preview_rows)
    elif to is None:
        raise typer.BadParameter("say where the archive goes with --to, or look first with --preview")
    else:
        _write(files, rules, to, since=since, until=until, replace=replace, as_json=as_json)


def _monthly(folder: Path) -> list[Path]:
    from plumbline.errors import InvalidArchive

    files = sorted(folder.glob("transactions-*.parquet"))
    if not files:
        raise InvalidArchive("import", "folder", str(folder), "a folder with files transactions-*.parquet")
    return files


def _write(
    files: list[Path],
    mapping: "Mapping",
    to: Path,
    *,
    since: datetime | None,
    until: datetime | None,
    replace: bool,
    as_json: bool,
) -> None:
    import structlog

    from archive.currencies import currencies_of, mixed
    from archive.importing import import_files

    started = time.perf_counter()
    written = import_files(
        files, mapping, to, now_us=_now_us(), since_us=_utc_us(since), until_us=_utc_us(until), replace=replace
    )
    seconds = time.perf_counter() - started
    found = written.manifest
    currencies = currencies_of(written)
    structlog.get_logger().info("imported", source=mapping.source, files=len(files), seconds=round(seconds, 1))
    if warning := mixed(currencies):
        print(f"plumbline: warning: {warning}", file=sys.stderr)
    if as_json:
        body = {"archive": str(to), "rows": found.rows, "labels": found.labels, "digest": found.digest}
        print(json.dumps(body | {"currencies": currencies, "seconds": round(seconds, 3)}))
    else:
        print(f"{to}: {found.rows} transactions and {found.labels} fraud labels, digest {found.digest}")


def _preview(files: list[Path], mapping: "Mapping", rows: int) -> None:
    import msgspec

    from archive.importing import RowsRefused, preview
    from archive.rows import labels_of, transactions_of
    from plumbline.transaction import encode

    part = preview(files, mapping, rows, _now_us())
    for transaction in transactions_of(part.transactions):
        print(encode(transaction).decode())
    for batch in part.labels.to_batches():
        for label in labels_of(batch):
            print(msgspec.json.encode(label).decode())
    if part.problems:
        raise RowsRefused(part.problems)


def _now_us() -> int:
    return time.time_ns() // 1000


def _utc_us(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    import calendar

    return calendar.timegm(moment.timetuple()) * 1_000_000
