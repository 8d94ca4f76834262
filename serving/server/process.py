"""The embedded model server as a process: ports first, then TensorFlow, then versions, until a signal ends it."""

import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from plumbline.errors import Unready
from serving.server import grpc_edge, http_edge
from serving.server.model import Model
from serving.server.versions import Versions

log = structlog.get_logger()

GRACE_SECONDS: Final = 5.0
SWITCH_SECONDS: Final = 0.001
"""How long Python lets one thread run while others wait: a version being loaded must not hold up requests."""


@dataclass(frozen=True, slots=True)
class Options:
    """What one server process serves, and where; port 0 takes a free one, rest_port None leaves REST out.

    op_threads: threads that one operation of a model may use; keep_versions: how many of the newest are served at once.
    """

    model_name: str
    base_path: Path
    host: str
    port: int
    rest_port: int | None
    poll_seconds: float
    op_threads: int
    keep_versions: int = 1


def run(options: Options, announce: Callable[[dict[str, Any]], None]) -> None:
    """Serve until SIGTERM or SIGINT; calls under way get five seconds to end.

    announce: is told `{"state": "listening", ...}` once the ports are held, and `{"state": "serving", ...}` with each
    version that comes into service. Raises Unready when a port cannot be had, or the base path is a file.
    """
    stop = threading.Event()
    importing = threading.Event()

    def on_signal(*_: Any) -> None:
        stop.set()
        if importing.is_set():
            # No call is under way yet, an import takes long, and an exception might be swallowed by what is imported.
            os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    if options.base_path.exists() and not options.base_path.is_dir():
        raise Unready(f"{options.base_path} is a file: --model-base-path takes the folder that holds numbered versions")
    models: dict[str, Versions] = {}
    grpc_server, port = grpc_edge.bind(models, options.host, options.port)
    rest_server, rest_port = None, None
    try:
        if options.rest_port is not None:
            rest_server, rest_port = http_edge.bind(models, options.host, options.rest_port)
            threading.Thread(target=rest_server.serve_forever, name="rest", daemon=True).start()
        grpc_server.start()
        where = {"host": options.host, "port": port, "rest_port": rest_port, "model": options.model_name}
        announce({"state": "listening", **where, "pid": os.getpid()})
        sys.setswitchinterval(SWITCH_SECONDS)
        importing.set()
        load = _loader(options.op_threads)
        importing.clear()
        # TensorFlow's own objects stay for good: the collector need not stop all requests to look at them again.
        gc.collect()
        gc.freeze()
        versions = Versions(options.model_name, options.base_path, load, options.keep_versions)
        models[options.model_name] = versions
        _poll_until(
            stop,
            versions,
            options.poll_seconds,
            lambda version: announce({"state": "serving", **where, "version": version}),
        )
    finally:
        grpc_server.stop(GRACE_SECONDS).wait()
        if rest_server is not None:
            rest_server.shutdown()
            rest_server.server_close()
    log.info("stopped")


def _poll_until(stop: threading.Event, versions: Versions, poll_seconds: float, serving: Callable[[int], None]) -> None:
    served: set[int] = set()
    complaint = ""
    while not stop.is_set():
        try:
            versions.poll()
            complaint = ""
        except OSError as error:
            if str(error) != complaint:  # told once, not with every look
                complaint = str(error)
                log.error("the base path cannot be read", base_path=str(versions.base_path), error=complaint)
        now = versions.served()
        if set(now) != served:
            gc.collect()  # a version that was let go, whose graph refers to itself
            for version in now:
                if version not in served:
                    serving(version)
            served = set(now)
        stop.wait(poll_seconds)


def _loader(op_threads: int) -> Callable[[Path, int], Model]:
    """The function that loads a version. Importing it takes seconds, so the ports are held before that."""
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")  # its plans for 2027
        # TensorFlow also imports Keras, of either kind, and does without when there is none. A SavedModel needs none,
        # and a third of the start-up time goes to it.
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        sys.modules.setdefault("tf_keras", None)  # type: ignore[arg-type] # None makes the import fail at once
    from serving.server.saved_model import load, use_threads

    use_threads(op_threads)
    return load
