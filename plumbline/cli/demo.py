"""`plumbline demo`: every part on this machine, on a simulated bank."""

import json
import signal
import sys
import threading
import time
from typing import Annotated

import typer


def demo(
    seconds: Annotated[
        float | None,
        typer.Option(
            envvar="DEMO_SECONDS", min=1, help="Play so long, audit, print one JSON object. [default: until Ctrl-C]"
        ),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Messages a second.")] = 25.0,
    canary: Annotated[
        str,
        typer.Option(
            help="A version with this fault decides for half of the accounts: slow, erring, shifted, blind, or healthy "
            "for none. [default: no canary]"
        ),
    ] = "",
) -> None:
    """Run every part on this machine, on simulated payments: broker, model, scorer, ledger, console."""
    from demo.faulty import WAYS
    from demo.run import Asked, run
    from plumbline.errors import InvalidSetting
    from plumbline.settings import load

    if canary and canary not in WAYS:
        raise InvalidSetting("demo", "--canary", canary, f"one of {', '.join(WAYS)}")
    settings = load()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    asked = Asked(settings.data_path, settings.model_name, seconds, rate, settings.http_port, canary)
    done = run(asked, lambda: time.time_ns() // 1000, stop, _tell, _show)
    if done is not None:
        print(json.dumps(done))
        if done["decisions"] != done["transactions"] or done["audit_different"]:
            raise typer.Exit(1)


def _tell(text: str) -> None:
    print(f"\r{text}", file=sys.stderr, flush=True)


def _show(text: str) -> None:
    """One line that is written over and over; nothing where nobody watches."""
    if sys.stderr.isatty():
        print(f"\r{text}   ", end="", file=sys.stderr, flush=True)
