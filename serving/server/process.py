"""The embedded model server as a process: ports first, then TensorFlow, then versions, until a signal ends it."""

import gc
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

import grpc
import structlog

from plumbline.errors import Unready
from serving import wire_pb2 as wire
from serving.server import config, grpc_edge, health, http_edge, reflection
from serving.server.batch_threads import Batching
from serving.server.batching import Parameters
from serving.server.model import Model
from serving.server.models import Models
from serving.server.monitoring import Monitoring
from serving.server.status import StatusError
from serving.server.versions import Retries
from serving.server.warmup import warm_up
from serving.server.watch import Watch

log = structlog.get_logger()

GRACE_SECONDS: Final = 5.0
SWITCH_SECONDS: Final = 0.001
"""How long Python lets one thread run while others wait: a version being loaded must not hold up requests."""
STOP, POLL = "stop", "poll"


@dataclass(frozen=True, slots=True)
class Options:
    """What one server process serves, and where; port 0 takes a free one, rest_port None leaves REST out.

    op_threads: threads that one operation of a model may use; keep_versions: how many of the newest are served at once;
    config_file: takes the place of model_name, base_path and keep_versions, and is read again every
    config_poll_seconds (0: never); labels_ahead: whether a new label may go to a version that is not served yet;
    cors: whether web pages of any origin may call REST; health, reflection: whether gRPC has these services too;
    tensor_content: whether gRPC answers numbers as bytes; warm_up: whether a version answers the requests in its folder
    first; batching: None computes each call by itself; metrics_path: where on the REST port Prometheus reads (None:
    nowhere); credentials: for TLS of gRPC.
    """

    model_name: str
    base_path: Path
    host: str
    port: int
    rest_port: int | None
    poll_seconds: float
    op_threads: int
    keep_versions: int = 1
    config_file: Path | None = None
    config_poll_seconds: float = 0.0
    labels_ahead: bool = False
    cors: bool = False
    health: bool = False
    reflection: bool = False
    tensor_content: bool = False
    retries: Retries = field(default_factory=Retries)
    warm_up: bool = True
    batching: Parameters | None = None
    metrics_path: str | None = None
    credentials: grpc.ServerCredentials | None = None


def run(options: Options, announce: Callable[[dict[str, Any]], None]) -> None:
    """Serve until SIGTERM or SIGINT; calls under way get five seconds to end.

    announce: is told `{"state": "listening", ...}` once the ports are held, and `{"state": "serving", ...}` with each
    version that comes into service. Raises Unready when a port cannot be had, or the base path is a file, and
    StatusError for a configuration that is not allowed.
    """
    # Its put may be called by a signal handler while the same thread waits in its get, as no lock or event may.
    bell: SimpleQueue[str] = SimpleQueue()
    importing = threading.Event()

    def on_signal(*_: Any) -> None:
        bell.put(STOP)
        if importing.is_set():
            # No call is under way yet, an import takes long, and an exception might be swallowed by what is imported.
            os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    watch = Watch(Monitoring(), known=lambda name: models.versions(name) is not None)
    load = _loader(options, watch)
    models = Models(load, options.labels_ahead, options.retries, wake=lambda: bell.put(POLL))
    models.reload(_configuration(options))
    workers = grpc_edge.WORKERS if options.batching is None else grpc_edge.WAITING_WORKERS
    grpc_server, port = grpc_edge.bind(
        models, watch, options.host, options.port, options.credentials, workers, options.tensor_content
    )
    if options.health:
        health.add(grpc_server)
    if options.reflection:
        reflection.add(grpc_server, health=options.health)
    rest_server, rest_port = None, None
    try:
        if options.rest_port is not None:
            rest_server, rest_port = http_edge.bind(
                models, watch, options.host, options.rest_port, options.cors, options.metrics_path
            )
            threading.Thread(target=rest_server.serve_forever, name="rest", daemon=True).start()
        grpc_server.start()
        where = {"host": options.host, "port": port, "rest_port": rest_port}
        announce({"state": "listening", **where, "model": options.model_name, "pid": os.getpid()})
        sys.setswitchinterval(SWITCH_SECONDS)
        importing.set()
        _import(options.op_threads)
        importing.clear()
        # TensorFlow's own objects stay for good: the collector need not stop all requests to look at them again.
        gc.collect()
        gc.freeze()
        _poll_until_stopped(
            options,
            models,
            watch,
            bell,
            lambda name, version: announce({"state": "serving", **where, "model": name, "version": version}),
        )
    finally:
        grpc_server.stop(GRACE_SECONDS).wait()
        if rest_server is not None:
            rest_server.shutdown()
            rest_server.server_close()
        watch.close()
    log.info("stopped")


def _configuration(options: Options) -> wire.ModelServerConfig:
    if options.config_file is not None:
        return config.read(options.config_file)
    if options.base_path.exists() and not options.base_path.is_dir():
        raise Unready(f"{options.base_path} is a file: --model-base-path takes the folder that holds numbered versions")
    return config.single(options.model_name, options.base_path, options.keep_versions)


def _poll_until_stopped(
    options: Options, models: Models, watch: Watch, bell: "SimpleQueue[str]", serving: Callable[[str, int], None]
) -> None:
    served: set[tuple[str, int]] = set()
    read_at = time.monotonic()
    wait_seconds = 0.0
    while not _stopped(bell, wait_seconds):
        if options.config_poll_seconds and time.monotonic() - read_at >= options.config_poll_seconds:
            read_at = time.monotonic()
            _read_again(options, models)
        watch.update_logs(models.wanted())
        models.poll()
        now = models.served()
        if set(now) != served:
            gc.collect()  # a version that was let go, whose graph refers to itself
            for name, version in now:
                if (name, version) not in served:
                    serving(name, version)
            served = set(now)
        wait_seconds = options.poll_seconds


def _stopped(bell: "SimpleQueue[str]", seconds: float) -> bool:
    """Whether a signal came; waits so long for a reason to look at anything."""
    try:
        told = bell.get(timeout=seconds)
        while told != STOP:
            told = bell.get_nowait()
    except Empty:
        return False
    return True


def _read_again(options: Options, models: Models) -> None:
    """Put the configuration file in force; one that is not allowed changes nothing."""
    try:
        models.reload(_configuration(options))
    except StatusError as error:
        log.error("the configuration file is refused", file=str(options.config_file), error=str(error))


def _loader(options: Options, watch: Watch) -> Callable[[Path, int], Model]:
    """What loads a version and makes it ready to be served; to be called only once `_import` has been."""
    batching = Batching(options.batching, watch.monitoring) if options.batching is not None else None

    def ready(folder: Path, version: int) -> Model:
        from serving.server.saved_model import load

        model = load(folder, version)
        if options.warm_up:
            warm_up(model, folder, watch.monitoring)
        return watch.watched(model if batching is None else batching.merged(model))

    return ready


def _import(op_threads: int) -> None:
    """Import TensorFlow and set it up. That takes seconds, so the ports are held before."""
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")  # its plans for 2027
        # TensorFlow also imports Keras, of either kind, and does without when there is none. A SavedModel needs none,
        # and a third of the start-up time goes to it.
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        sys.modules.setdefault("tf_keras", None)  # type: ignore[arg-type] # None makes the import fail at once
    from serving.server.saved_model import use_threads

    use_threads(op_threads)
