"""`plumbline ledger`: stores the journal in SQL and publishes analysts' verdicts, until it is told to stop."""

import dataclasses
import json
import signal
import threading
import time
from typing import Annotated

import typer


def ledger(
    once: Annotated[bool, typer.Option("--once", help="Store up to the journal's present end, then leave.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Store the journal in SQL and publish verdicts as labels; runs until SIGTERM or Ctrl-C."""
    # first of all: who is told to stop while still loading stops like anybody else
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    from app.ledger import Ledger, run
    from observe.metrics import Metrics
    from plumbline.settings import load
    from store.engine import open_engine

    settings = load()
    metrics = Metrics()
    server = metrics.serve(settings.metrics_host, settings.metrics_port)
    engine = open_engine(settings)
    try:
        work = Ledger(
            engine=engine,
            bootstrap=settings.kafka_bootstrap,
            topic_prefix=settings.topic_prefix,
            stop=stop,
            metrics=metrics,
            now=lambda: time.time_ns() // 1000,
        )
        stored = run(work, once=once)
    finally:
        engine.dispose()
        if server is not None:
            server.shutdown()
            server.server_close()
    counts = dataclasses.asdict(stored)
    if as_json:
        print(json.dumps(counts))
    else:
        print(", ".join(f"{name}: {count}" for name, count in counts.items()))
