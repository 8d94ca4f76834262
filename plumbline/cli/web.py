"""`plumbline web`: the analysts' console, until it is told to stop."""

import json
from typing import Annotated

import typer


def web(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: from the settings]")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one. [default: from the settings]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the address as one JSON object.")] = False,
) -> None:
    """Run the analysts' console; it prints its address when it answers, and stops on SIGTERM or Ctrl-C."""
    from app import create_app
    from app.server import address, listen, run
    from plumbline.settings import load
    from store.engine import open_engine
    from store.schema import require_current

    settings = load()
    engine = open_engine(settings)
    app = create_app(settings, engine)
    require_current(engine)
    engine.dispose()
    listener = listen(settings.http_host if host is None else host, settings.http_port if port is None else port)
    url = address(listener)
    run(app, engine, listener, lambda: print(json.dumps({"url": url}) if as_json else f"console at {url}", flush=True))
