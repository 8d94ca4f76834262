"""REST as a transport: connections and threads, a body in, a status and a JSON text out."""

import http
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from typing import Any, Final

import structlog

from plumbline.errors import Unready
from serving.server import http_body, rest
from serving.server.models import Models
from serving.server.monitoring import MetricsPage
from serving.server.status import Code, StatusError
from serving.server.watch import Watch

log = structlog.get_logger()

HTTP_STATUS: Final = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}

IDLE_SECONDS: Final = 60
CONNECTIONS_MAX: Final = 256
"""One more at once is refused with 503, so that threads and memory stay bounded."""
CORS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
WEB_ORIGIN: Final = re.compile("https?://")


class Handler(BaseHTTPRequestHandler):
    """One connection; every answer is JSON, an error is `{"error": text}`."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    # An answer leaves in one segment, at once.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: "Server"

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        try:
            body = http_body.read(self.headers, self.rfile)
        except StatusError as error:
            self.close_connection = True  # nobody knows where the next request would begin
            self._send_error(HTTP_STATUS[error.code], error.message)
            return
        except (ConnectionError, TimeoutError):
            self.close_connection = True
            return
        try:
            if (told := self.server.metrics.answer(self.command, path)) is not None:
                self._send(*told)
            elif not path.lower().startswith("/v1/"):
                self._send(404, "text/plain; charset=utf-8", "Not found\n")
            elif self.command == "OPTIONS":
                self._allow()
            else:
                text = rest.answer(self.server.models, self.server.watch, self.command, path, body)
                self._send(200, "application/json", text)
        except StatusError as error:
            self._send_error(HTTP_STATUS[error.code], error.message)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception as error:
            log.exception("a request failed", method=self.command, path=path)
            self._send_error(500, f"{type(error).__name__}: {error}")

    def __getattr__(self, name: str) -> Any:
        """The base class looks for a function by the method's name; what is wrong with a method, `rest` says."""
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _allow(self) -> None:
        """What a browser asks before it lets a page of another origin call."""
        if not WEB_ORIGIN.match(self.headers.get("Origin", "")):
            raise StatusError(Code.FAILED_PRECONDITION, "Origin header is missing in CORS preflight")
        self._send(200, "application/json", "")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no HTTP request, in the protocol's own form, and end the connection."""
        self.close_connection = True
        self._send_error(code, message or explain or http.HTTPStatus(code).phrase)

    def _send_error(self, status: int, message: str) -> None:
        text = json.dumps({"error": message}, indent=4, ensure_ascii=False)
        self._send(status, "application/json", text)

    def _send(self, status: int, kind: str, text: str) -> None:
        content = text.encode("utf-8", "replace")
        # Of what is no request at all, no headers are known.
        accepted = self.headers.get("Accept-Encoding", "") if hasattr(self, "headers") else ""
        packed = http_body.packed(content, accepted)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in CORS.items() if self.server.cors else ():
            self.send_header(name, value)
        if packed is not None:
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Vary", "Accept-Encoding")
        self.send_header("Content-Length", str(len(packed or content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(packed or content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's name
        """Say nothing about requests that were answered."""


class Server(ThreadingHTTPServer):
    """A thread for every connection, of which there are only so many; the rest as in `bind`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, models: Models, watch: Watch, host: str, port: int, cors: bool, metrics_path: str | None
    ) -> None:
        self.models = models
        self.watch = watch
        self.metrics = MetricsPage(watch.monitoring, metrics_path)
        self.cors = cors
        self.address_family = AF_INET6 if ":" in host else AF_INET
        self._room = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__((host, port), Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own, or refuse it where there are too many."""
        if not self._room.acquire(blocking=False):
            request.settimeout(1.0)
            request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """As the base class does, and make room for another connection in the end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection broke off; only that connection ends."""
        log.info("a connection broke off", client=str(client_address), exc_info=True)


def bind(
    models: Models, watch: Watch, host: str, port: int, cors: bool = False, metrics_path: str | None = None
) -> tuple[Server, int]:
    """A server that holds its port (a free one where 0 is asked for), and that port.

    cors: whether pages of any origin may call; metrics_path: where Prometheus reads (None: nowhere).
    Raises Unready when the port cannot be had.
    """
    try:
        server = Server(models, watch, host, port, cors, metrics_path)
    except OSError as error:
        raise Unready(
            f"REST cannot listen on {host}:{port} ({error.strerror}): stop what uses that port, "
            "or choose another with --rest-port"
        ) from error
    return server, server.server_port
