"""`plumbline drift`: compares what the journal decided with what the models were trained on, feature by feature."""

import datetime
import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from drift.measure import Measured
    from plumbline.settings import Settings


def drift(
    since: Annotated[
        str | None, typer.Option(help="Begin of the window, a UTC day or time. [default: a day before its end]")
    ] = None,
    until: Annotated[str | None, typer.Option(help="End of the window. [default: the journal's newest entry]")] = None,
    follow: Annotated[float | None, typer.Option(min=0.01, help="Again every so many minutes, until stopped.")] = None,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Load the versions' files here, and ask no model server.")
    ] = False,
    models_dir: Annotated[
        Path | None, typer.Option(help="Folder of models. [default: models in the data folder]")
    ] = None,
    record: Annotated[bool, typer.Option(help="Store the result, so that the console shows it.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a pass.")] = False,
) -> None:
    """Compare the journal's last day with what its models were trained on; exit 0 whatever it finds."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    from plumbline.errors import InvalidSetting, Refused, Retryable
    from plumbline.settings import load

    settings = load()
    bounds = _milliseconds("--since", since), _milliseconds("--until", until)
    if bounds[0] is not None and bounds[1] is not None and bounds[0] >= bounds[1]:
        raise InvalidSetting("drift", "--since", since, f"a time before --until ({until})")
    models = (models_dir or settings.data_path / "models") / settings.model_name
    if in_process:
        from plumbline.cli.quiet import import_tensorflow_quietly

        import_tensorflow_quietly()
    while True:
        try:
            _pass(settings, bounds, models, in_process=in_process, record=record, as_json=as_json)
        except (Refused, Retryable) as error:
            if follow is None:
                raise
            print(f"plumbline: {error}; the next pass tries again", file=sys.stderr, flush=True)
        if follow is None or stop.wait(follow * 60):
            return


def _pass(
    settings: "Settings", bounds: tuple[int | None, int | None], models: Path, *, in_process: bool, record: bool,
    as_json: bool,
) -> None:  # fmt: skip
    from drift.measure import measure
    from drift.record import facts_of
    from drift.stability import Limits
    from drift.values import FromFiles, Served
    from drift.window import decisions, find_window
    from plumbline.errors import Refused
    from serving.channel_tls import channel_credentials
    from serving.client import ModelClient

    started_at = time.time_ns() // 1000
    place = settings.kafka_bootstrap, settings.topic_prefix
    limits = Limits(
        psi_warn=settings.drift_psi_warn,
        psi_alarm=settings.drift_psi_alarm,
        missing_warn=settings.drift_missing_warn,
        missing_alarm=settings.drift_missing_alarm,
        least=settings.drift_least_decisions,
    )
    window = find_window(*place, *bounds)
    asking = settings.model_server, settings.model_name, max(settings.model_deadline_ms, 10_000)
    with ModelClient(*asking, channel_credentials(settings)) as client:
        transform = FromFiles(models) if in_process else Served(client, models)
        measured = measure(window, decisions(*place, window), transform, models, limits)
    if measured.not_compared and not measured.drifts:
        raise Refused("; ".join(f"version {number}: {why}" for number, why in measured.not_compared.items()))
    if record:
        _record(settings, measured, started_at)
    if as_json:
        print(json.dumps(facts_of(measured)), flush=True)
    else:
        _tell(measured)


def _milliseconds(option: str, text: str | None) -> int | None:
    """A UTC day or time as milliseconds since 1970.

    >>> _milliseconds("--since", "1970-01-02"), _milliseconds("--since", "1970-01-01T00:00:01.5")
    (86400000, 1500)
    """
    from plumbline.errors import InvalidSetting

    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidSetting("drift", option, text, "a day or time such as 2026-03-01 or 2026-03-01T12:30") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    return round(moment.timestamp() * 1000)


def _record(settings: "Settings", measured: "Measured", started_at: int) -> None:
    from drift.record import rows_of
    from store.drifts import record_drift
    from store.engine import open_engine, transaction

    engine = open_engine(settings)
    try:
        with transaction(engine) as session:
            for each in measured.drifts:
                record_drift(session, *rows_of(each, measured, started_at, time.time_ns() // 1000))
    finally:
        engine.dispose()


def _tell(measured: "Measured") -> None:
    if not measured.drifts:
        print("no decision of this window has a score")
    for each in measured.drifts:
        print(f"version {each.model_version}, trained on {each.train}: {each.compared:,} decisions, {each.level}")
        for figure in sorted((each.score, *each.features), key=lambda found: -(found.psi or 0.0)):
            psi = "      –" if figure.psi is None else f"{figure.psi:7.4f}"
            print(f"  {figure.binned.name:<36} PSI {psi}  {figure.level:<6} "
                  f"missing {figure.missing_then:.1%} then, {figure.missing_now:.1%} now")  # fmt: skip
    for version, why in measured.not_compared.items():
        print(f"version {version} was not compared: {why}", file=sys.stderr)
