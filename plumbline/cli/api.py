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
    grpc_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of gRPC; 0 takes a free one. [default: from the settings]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the addresses as one JSON object.")] = False,
) -> None:
    """Answer callers by HTTP and gRPC; it prints its addresses when it answers, and stops on SIGTERM or Ctrl-C."""
    from app.api import openapi
    from app.api.process import announced, run
    from app.server import listen
    from plumbline.settings import load
    from store.engine import open_engine
    from store.schema import require_current

    settings = load()
    engine = open_engine(settings)
    require_current(engine)
    engine.dispose()
    host = settings.api_host if host is None else host
    grpc_port = settings.api_grpc_port if grpc_port is None else grpc_port
    # gRPC is bound after a fork, where a port that is taken could not be told so well.
    listen(host, grpc_port).close()
    run(
        settings,
        listen(host, settings.api_port if port is None else port),
        grpc_port,
        openapi.text().encode(),
        lambda: time.time_ns() // 1000,
        lambda facts: print(announced(facts, as_json), flush=True),
    )
