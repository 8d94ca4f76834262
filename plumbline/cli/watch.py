"""`plumbline watch`: the continuous audit, conservation and replays on demand, until it is told to stop."""

import json
import signal
import threading
import time
from pathlib import Path
from typing import Annotated

import typer


def watch(
    sample: Annotated[
        str | None, typer.Option(help="Share of accounts to audit, such as 1/100. [default: PLUMBLINE_WATCH_ONE_IN]")
    ] = None,
    archive: Annotated[
        Path | None, typer.Option(help="Archive that came before the journal. [default: PLUMBLINE_ARCHIVE]")
    ] = None,
    models_dir: Annotated[
        Path | None, typer.Option(help="Folder of models. [default: models in the data folder]")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Up to the journal's present end, then leave.")] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Forget what was counted, and count from the beginning.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON line once it has caught up.")] = False,
) -> None:
    """Audit a sample all the time, count what became of every message, answer replays; runs until SIGTERM or Ctrl-C."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    from plumbline.cli.quiet import import_tensorflow_quietly

    import_tensorflow_quietly()
    from audit.past import Journal, Sources
    from audit.prehistory import archive_before
    from audit.watching import Watching, begin_anew, run
    from observe.metrics import Metrics
    from plumbline.settings import load
    from store.engine import open_engine
    from store.schema import require_current

    settings = load()
    before, until_us = archive_before(settings, archive)
    metrics = Metrics()
    server = metrics.serve(settings.metrics_host, settings.metrics_port)
    engine = open_engine(settings)
    caught_up = threading.Event()

    def now_us() -> int:
        return time.time_ns() // 1000

    def announce(sequence: int) -> None:
        if as_json and not caught_up.is_set():
            print(json.dumps({"state": "watching", "sequence": sequence}), flush=True)
        caught_up.set()

    try:
        require_current(engine)
        watching = Watching(
            sources=Sources(
                Journal(settings.kafka_bootstrap, settings.topic_prefix),
                before,
                until_us,
                (models_dir or settings.data_path / "models") / settings.model_name,
            ),
            engine=engine,
            folder=settings.data_path / "watch",
            one_in=settings.watch_one_in if sample is None else _one_in(sample),
            save_every=settings.snapshot_every_transactions,
            waiting_limit_ms=settings.waiting_limit_seconds * 1000,
        )
        if anew:
            begin_anew(watching, now_us())
        run(watching, metrics, now_us, stop, announce, once=once)
    finally:
        engine.dispose()
        if server is not None:
            server.shutdown()
            server.server_close()


def _one_in(text: str) -> int:
    from plumbline.errors import InvalidSetting

    one, slash, many = text.partition("/")
    if one != "1" or not slash or not many.isdecimal() or int(many) == 0:
        raise InvalidSetting("options", "--sample", text, "one account in so many, such as 1/100; 1/1 for all")
    return int(many)
