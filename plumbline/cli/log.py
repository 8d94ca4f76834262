"""Log lines of every process: structlog's, and those of libraries that use the standard library's logging.

One line an entry, UTC, on standard error: coloured words for a person (`console`) or one JSON object (`json`).
"""

import logging
from typing import Any, Literal, TextIO

import structlog

QUIET = ("kafka", "werkzeug", "apache_beam", "tensorflow", "absl", "h5py", "numba", "grpc", "alembic")
"""Libraries that speak of their own affairs at INFO; only their warnings are passed on."""

SILENT = ("kafka.net.selector",)
"""Libraries whose warnings a reader can do nothing about: a busy machine is none of the user's faults."""


def configure(style: Literal["console", "json"], stream: TextIO, level: int = logging.INFO) -> None:
    """Send all logs to a stream in the given style; calling it again replaces the former set-up."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if style == "json":
        rendering: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        rendering = [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in SILENT:
        logging.getLogger(name).setLevel(logging.ERROR)
