"""Keeps a sample of what a model was asked and answered, as TFRecord files of PredictionLog messages.

Whoever answers requests never waits for it: what finds the queue full is dropped, and counted.
"""

import queue
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from plumbline.errors import Invalid
from serving import wire_pb2 as wire
from serving.records import framed
from serving.server.monitoring import Monitoring
from serving.server.status import Code, StatusError, invalid

log = structlog.get_logger()

COLLECTOR: Final = "tfrecord"
WAITING_MAX: Final = 256
FILE_MAX_BYTES: Final = 256 * 1024 * 1024
"""A file that has grown so large is left as it is, and another one begun."""


class RequestLog:
    """The log of one model, and the thread that writes it.

    prefix: what the files' names begin with, folder included; rate: share of the requests that is kept, 0 to 1;
    draw: a number in [0, 1) for each request; wall: a clock, in seconds.
    """

    def __init__(
        self,
        model_name: str,
        prefix: Path,
        rate: float,
        monitoring: Monitoring,
        draw: Callable[[], float] = random.random,
        wall: Callable[[], float] = time.time,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self.model_name = model_name
        self.prefix = prefix
        self.rate = rate
        self._monitoring = monitoring
        self._draw = draw
        self._wall = wall
        self._waiting: queue.Queue[Callable[[], wire.PredictionLog] | None] = queue.Queue(waiting_max)
        self._file: BinaryIO | None = None
        self._thread = threading.Thread(target=self._write_all, name=f"request-log-{model_name}", daemon=True)
        self._thread.start()

    def offer(self, version: int, made: Callable[[], wire.PredictionLog]) -> None:
        """Keep a request and its answer if it is drawn; `made` gives them later, in another thread."""
        if self._draw() >= self.rate:
            return
        seconds = int(self._wall())

        def record() -> wire.PredictionLog:
            entry = made()
            about = entry.log_metadata
            about.model_spec.name = self.model_name
            about.model_spec.version.value = version
            about.sampling_config.sampling_rate = self.rate
            about.saved_model_tags.append("serve")
            about.timestamp_secs = seconds
            return entry

        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self._count(Code.RESOURCE_EXHAUSTED)

    def close(self) -> None:
        """Write what waits, and end."""
        self._waiting.put(None)
        self._thread.join()

    def _write_all(self) -> None:
        while (record := self._waiting.get()) is not None:
            try:
                self._write(framed(record().SerializeToString()))
            except Exception:  # a full disk, or an answer that cannot be written: the log must not end with it
                log.exception("a request was not logged", model=self.model_name, prefix=str(self.prefix))
                self._count(Code.INTERNAL)
            else:
                self._count(Code.OK)
        if self._file is not None:
            self._file.close()

    def _write(self, record: bytes) -> None:
        if self._file is not None and self._file.tell() + len(record) > FILE_MAX_BYTES:
            self._file.close()
            self._file = None
        if self._file is None:
            self.prefix.parent.mkdir(parents=True, exist_ok=True)
            # A file of its own for every start: one that a crash cut short is never written on.
            path = self.prefix.with_name(f"{self.prefix.name}-{int(self._wall() * 1e6)}.tfrecord")
            self._file = path.open("xb")
        try:
            self._file.write(record)
            self._file.flush()
        except OSError:
            self._file.close()
            self._file = None
            raise

    def _count(self, code: Code) -> None:
        self._monitoring.request_log_count.add(self.model_name, code.name)


def check(model_name: str, config: wire.LoggingConfig) -> None:
    """Raise StatusError unless a model's configuration asks for a log that this server can keep, or for none."""
    rate = config.sampling_config.sampling_rate
    collector = config.log_collector_config
    if not 0 <= rate <= 1:
        raise _wrong(model_name, "sampling_config.sampling_rate", rate, "0 to 1")
    if rate == 0:
        return
    if collector.type != COLLECTOR:
        raise _wrong(model_name, "log_collector_config.type", collector.type, COLLECTOR)
    if not collector.filename_prefix.startswith("/") or collector.filename_prefix.endswith("/"):
        raise _wrong(model_name, "log_collector_config.filename_prefix", collector.filename_prefix, "an absolute path")


def request_log(model_name: str, config: wire.LoggingConfig, monitoring: Monitoring) -> RequestLog | None:
    """The log that a model's configuration asks for; None where its sampling rate is 0. Raises StatusError."""
    check(model_name, config)
    rate = config.sampling_config.sampling_rate
    return RequestLog(model_name, Path(config.log_collector_config.filename_prefix), rate, monitoring) if rate else None


def _wrong(model_name: str, field: str, value: object, allowed: str) -> StatusError:
    return invalid(str(Invalid(f"logging configuration of {model_name}", field, value, allowed)))
