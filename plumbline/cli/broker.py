"""`plumbline broker`: a local Apache Kafka in the foreground."""

from typing import Annotated

import typer


def broker(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on the loopback address; 0 picks a free one.")
    ] = 9092,
    data_dir: Annotated[str, typer.Option(help="Data folder; PLUMBLINE_DATA_DIR when not given.")] = "",
    tansu: Annotated[bool, typer.Option("--tansu", help="The Tansu broker, even where Java is installed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say that it is ready as one JSON object.")] = False,
) -> None:
    """Run a local Apache Kafka broker until Ctrl-C or SIGTERM; without Java, the Tansu broker, for a look only."""
    import json
    import signal
    import sys

    from plumbline.errors import Unready
    from plumbline.settings import load
    from streaming.broker.local import LocalBroker
    from streaming.broker.recipe import TANSU_NOTICE

    # Both ways to be asked to stop arrive as KeyboardInterrupt, also while the broker is still starting.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    local = LocalBroker(data_dir or load().data_dir, port, kind="tansu" if tansu else None)
    try:
        if local.kind == "tansu":
            print(TANSU_NOTICE, file=sys.stderr)
        with local:
            if as_json:
                ready = {"bootstrap": local.bootstrap, "kind": local.kind, "version": local.version}
                print(json.dumps(ready), flush=True)
            else:
                name = "Apache Kafka" if local.kind == "kafka" else "Tansu"
                print(f"{name} {local.version} is ready at {local.bootstrap}; Ctrl-C stops it.", flush=True)
            local.wait()
            raise Unready(f"the broker at {local.bootstrap} ended by itself: see {local.log_file}, then start it again")
    except KeyboardInterrupt:
        return
