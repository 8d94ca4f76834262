"""The console's web server: gunicorn, one process with many threads, started from Python.

One process, because watchers of the live stream share one look at the database, and failed log-ins are counted in its
memory. Every open stream holds a thread, so there are more threads than streams.
"""

import errno
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from flask import Flask
from gunicorn.app.base import BaseApplication
from sqlalchemy import Engine

from app.news import Desk
from app.stream import STREAMS_MAX
from plumbline.errors import Unready

THREADS: Final = STREAMS_MAX + 16
BACKLOG: Final = 512
GRACEFUL_SECONDS: Final = 5


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises Unready, with what to do, when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            remedy = "stop what uses it, or choose another with --port"
            raise Unready(f"port {port} on {host} is in use: {remedy}") from error
        raise Unready(f"cannot listen on {host}:{port} ({error.strerror}): choose another --host or --port") from error
    return listener


def address(listener: socket.socket) -> str:
    """The address to open in a browser on this machine."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}/"


def run(app: Flask, engine: Engine, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called once requests are answered. Leaves by SystemExit."""
    desk: Desk = app.extensions["plumbline.desk"]

    def after_fork(_server: Any, _worker: Any) -> None:
        # the parent's connections, if any, are not ours to use
        engine.dispose(close=False)

    def before_run(_worker: Any) -> None:
        # gunicorn waits for open requests when it stops; streams would never end by themselves
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            _also(number, desk.close)

    options = {
        "bind": f"fd://{listener.fileno()}",
        "workers": 1,
        "worker_class": "gthread",
        "threads": THREADS,
        "preload_app": True,
        "graceful_timeout": GRACEFUL_SECONDS,
        "timeout": 60,
        "keepalive": 15,
        "limit_request_line": 4094,
        "accesslog": None,
        "loglevel": "warning",
        "control_socket_disable": True,
        "post_fork": after_fork,
        "post_worker_init": before_run,
        "when_ready": lambda _server: ready(),
    }
    Server(lambda: app, options).run()


def _also(number: signal.Signals, action: Callable[[], None]) -> None:
    """Does one thing more when a signal comes, before what its handler did so far."""
    former = signal.getsignal(number)

    def handle(received: int, frame: FrameType | None) -> None:
        action()
        if callable(former):
            former(received, frame)

    signal.signal(number, handle)


class Server(BaseApplication):
    """gunicorn with settings from here alone: no file, no command line, no environment."""

    def __init__(self, load: Callable[[], Flask], options: dict[str, Any]) -> None:
        """load: makes the application, in each worker unless `preload_app` is set."""
        self._load = load
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self._load()
