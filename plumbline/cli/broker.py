"""`plumbline broker`: a local Apache Kafka in the foreground."""

from typing import Annotated

import typer


def broker(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on the loopback address; 0 picks a free one.")
    ] = 9092,
    data_dir: Annotated[str, typer.Option(help="Data folder; PLUMBLINE_DATA_DIR when not given.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Say that it is ready as one JSON object.")] = False,
) -> None:
    """Run a local Apache Kafka broker until Ctrl-C or SIGTERM."""
    import json
    import signal

    from plumbline.errors import Unready
    from plumbline.settings import load
    from streaming.broker.local import LocalBroker

    # Both ways to be asked to stop arrive as KeyboardInterrupt, also while the broker is still starting.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    local = LocalBroker(data_dir or load().data_dir, port)
    try:
        with local:
            if as_json:
                print(json.dumps({"bootstrap": local.bootstrap, "version": local.version}), flush=True)
            else:
                print(f"Apache Kafka {local.version} is ready at {local.bootstrap}; Ctrl-C stops it.", flush=True)
            local.wait()
            raise Unready(f"the broker at {local.bootstrap} ended by itself: see {local.log_file}, then start it again")
    except KeyboardInterrupt:
        return
