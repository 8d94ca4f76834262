"""`plumbline guard`: judges canaries, experiments and shadows by the journal, and takes faulty ones out."""

import json
import signal
import threading
import time
from pathlib import Path
from typing import Annotated

import typer


def guard(
    limits: Annotated[
        Path | None, typer.Option(help="JSON file of limits. [default: PLUMBLINE_GUARD_LIMITS_FILE, else built in]")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Up to the journal's present end, then leave.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON line once it has caught up.")] = False,
) -> None:
    """Judge every version that has accounts or shadows the champion, and roll back one that breaks a guardrail.

    It runs until SIGTERM or Ctrl-C. While it is away a canary goes on with its share, and the console warns.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    from observe.metrics import Metrics
    from plumbline.settings import load
    from release.guard import Guarding, run
    from release.limits import read_limits
    from store.engine import open_engine
    from store.schema import require_current

    settings = load()
    named = limits or (Path(settings.guard_limits_file) if settings.guard_limits_file else None)
    allowed = read_limits(named)
    metrics = Metrics()
    server = metrics.serve(settings.metrics_host, settings.metrics_port)
    engine = open_engine(settings)
    caught_up = threading.Event()

    def announce(sequence: int) -> None:
        if as_json and not caught_up.is_set():
            print(json.dumps({"state": "guarding", "sequence": sequence}), flush=True)
        caught_up.set()

    try:
        require_current(engine)
        guarding = Guarding(settings.kafka_bootstrap, settings.topic_prefix, engine, allowed)
        run(guarding, metrics, lambda: time.time_ns() // 1000, stop, announce, once=once)
    finally:
        engine.dispose()
        if server is not None:
            server.shutdown()
            server.server_close()
