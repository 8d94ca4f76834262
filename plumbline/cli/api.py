"""`plumbline api`: decisions for callers that wait, until it is told to stop."""

import time
from typing import Annotated

import typer


def api(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: from the settings]")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of HTTP; 0 takes a free one. [default: from the settings]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the address as one JSON object.")] = False,
) -> None:
    """Answer POST /v1/decisions; it prints its address when it answers, and stops on SIGTERM or Ctrl-C."""
    from app.api.process import announced, run
    from app.server import listen
    from plumbline.settings import load
    from store.engine import open_engine
    from store.schema import require_current

    settings = load()
    engine = open_engine(settings)
    require_current(engine)
    engine.dispose()
    listener = listen(settings.api_host if host is None else host, settings.api_port if port is None else port)
    run(
        settings,
        listener,
        b"{}",
        lambda: time.time_ns() // 1000,
        lambda facts: print(announced(facts, as_json), flush=True),
    )
