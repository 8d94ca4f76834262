"""`plumbline score`: transactions in, decisions out; a standby while another scorer leads."""

import json
import signal
import threading
import time
from typing import Annotated

import typer


def score(
    accept_gap: Annotated[
        list[str] | None,
        typer.Option(
            help="Let messages that are gone stay undecided: TOPIC/PARTITION@OFFSET to go on at, journaled as a gap."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON line whenever it stands by or leads.")] = False,
) -> None:
    """Score transactions: stand by, lead when no other scorer does; runs until SIGTERM or Ctrl-C."""
    from observe.metrics import Metrics
    from plumbline.clock import monotonic
    from plumbline.settings import load
    from serving.channel_tls import channel_credentials
    from serving.client import ModelClient
    from streaming.leading import Scoring
    from streaming.model import Model
    from streaming.opening import accepted_gaps
    from streaming.scorer import run

    settings = load()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    metrics = Metrics()
    server = metrics.serve(settings.metrics_host, settings.metrics_port)

    def now_us() -> int:
        return time.time_ns() // 1000

    def announce(state: str, sequence: int) -> None:
        if as_json:
            print(json.dumps({"state": state, "sequence": sequence}), flush=True)

    try:
        asking = settings.model_server, settings.model_name, settings.model_deadline_ms
        with ModelClient(*asking, channel_credentials(settings)) as client:
            scoring = Scoring(
                bootstrap=settings.kafka_bootstrap,
                prefix=settings.topic_prefix,
                snapshots=settings.data_path / "snapshots",
                batch_max_transactions=settings.batch_max_transactions,
                snapshot_every_transactions=settings.snapshot_every_transactions,
                remembered_transactions=settings.remembered_transactions,
                message_max_age_days=settings.message_max_age_days,
                clock_tolerance_seconds=settings.clock_tolerance_seconds,
                rejected_share_warn=settings.rejected_share_warn,
                remembered_most=settings.remembered_max_transactions,
                remembered_days=settings.remembered_days,
                archive=settings.archive_path,
                accepted_gaps=accepted_gaps(accept_gap or []),
            )
            run(scoring, Model(client, monotonic), metrics, now_us, stop, announce)
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()
