"""REST to the data plane and back: model status, metadata, and predict in row and column form."""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from typing import Any, Final
from urllib.parse import unquote

import structlog
from google.protobuf import json_format

from plumbline.errors import Unready
from serving import wire_pb2 as wire
from serving.methods import DEFAULT_SIGNATURE, SIGNATURE_DEF
from serving.server import dataplane, json_answer, json_request, json_text
from serving.server.dataplane import Spec
from serving.server.grpc_calls import status_message
from serving.server.models import Models
from serving.server.status import Code, StatusError, invalid

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

BODY_MAX_BYTES: Final = 64 * 1024 * 1024
IDLE_SECONDS: Final = 60
MODEL: Final = r"/v1/models(?:/(?P<name>[^/:]+))?(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
READ: Final = re.compile(MODEL + r"(?:/(?P<part>metadata))?", re.IGNORECASE)
CALL: Final = re.compile(MODEL + r":(?P<method>classify|regress|predict)", re.IGNORECASE)


def answer(models: Models, method: str, path: str, body: bytes) -> str:
    """The JSON text that a request is answered with. Raises StatusError."""
    found = (CALL if method == "POST" else READ).fullmatch(path)
    if found is None or (method == "POST" and found["name"] is None):
        raise invalid(f"Malformed request: {method} {path}")
    if found["name"] is None:
        raise invalid("Missing model name in request.")
    spec = Spec(unquote(found["name"]), _version(found["version"]), unquote(found["label"] or ""))
    if method == "POST":
        if found["method"].lower() != "predict":
            raise StatusError(Code.UNIMPLEMENTED, f"This server speaks predict only, not {found['method'].lower()}.")
        return _predict(models, spec, body)
    return _metadata(models, spec) if found["part"] else _status(models, spec)


def _version(text: str | None) -> int | None:
    if text is None:
        return None
    if int(text) >= 1 << 63:
        raise invalid(f"Failed to convert version: {text} to numeric.")
    return int(text)


def _predict(models: Models, spec: Spec, body: bytes) -> str:
    document = json_text.parse(body)
    name = json_request.signature_name(document)
    model = dataplane.find(models, spec)  # once: a version may take over between two looks
    signature = model.signatures.get(name or DEFAULT_SIGNATURE)
    if signature is None:
        raise invalid(f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def')
    form, inputs = json_request.arrays(document, signature.inputs)
    return json_answer.text_of(dataplane.call(model, name, inputs).outputs, form)


def _status(models: Models, spec: Spec) -> str:
    statuses = dataplane.status(models, spec)
    return (
        json_format.MessageToJson(status_message(statuses), indent=1, always_print_fields_with_no_presence=True) + "\n"
    )


def _metadata(models: Models, spec: Spec) -> str:
    version, definitions = dataplane.metadata(models, spec, [SIGNATURE_DEF])
    options: dict[str, Any] = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}
    document = {
        "model_spec": {"name": spec.name, "signature_name": "", "version": str(version)},
        "metadata": {
            SIGNATURE_DEF: json_format.MessageToDict(wire.SignatureDefMap(signature_def=definitions), **options)
        },
    }
    return json.dumps(document, indent=1) + "\n"


class Handler(BaseHTTPRequestHandler):
    """One connection; every answer is JSON, an error is `{"error": text}`."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    # An answer leaves in one segment, at once.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: "Server"

    def do_GET(self) -> None:
        """Answer a status or metadata request."""
        self._answer("GET")

    def do_POST(self) -> None:
        """Answer a predict request."""
        self._answer("POST")

    def _answer(self, method: str) -> None:
        path = self.path.partition("?")[0]
        try:
            body = self._body()
            if not path.lower().startswith("/v1/"):
                self._send(404, "text/plain; charset=utf-8", "Not found\n")
                return
            self._send(200, "application/json", answer(self.server.models, method, path, body))
        except StatusError as error:
            self._send_error(HTTP_STATUS[error.code], error.message)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception as error:
            log.exception("a request failed", method=method, path=path)
            self._send_error(500, f"{type(error).__name__}: {error}")

    def _body(self) -> bytes:
        """The request's body; raises StatusError for one that is too large or comes without a length."""
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise invalid("The request's body needs a Content-Length: chunked bodies are not read here.")
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()) or int(length) > BODY_MAX_BYTES:
            self.close_connection = True
            raise invalid(f"Content-Length is {length[:20]}: expected 0 to {BODY_MAX_BYTES} bytes.")
        return self.rfile.read(int(length))

    def _send_error(self, status: int, message: str) -> None:
        text = json.dumps({"error": message}, indent=4, ensure_ascii=False)
        self._send(status, "application/json", text)

    def _send(self, status: int, kind: str, text: str) -> None:
        content = text.encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's name
        """Say nothing about requests that were answered."""


class Server(ThreadingHTTPServer):
    """A thread for every connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, models: Models, host: str, port: int) -> None:
        self.models = models
        self.address_family = AF_INET6 if ":" in host else AF_INET
        super().__init__((host, port), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection broke off; only that connection ends."""
        log.info("a connection broke off", client=str(client_address), exc_info=True)


def bind(models: Models, host: str, port: int) -> tuple[Server, int]:
    """A server that holds its port (a free one where 0 is asked for), and that port.

    Raises Unready when the port cannot be had.
    """
    try:
        server = Server(models, host, port)
    except OSError as error:
        raise Unready(
            f"REST cannot listen on {host}:{port} ({error.strerror}): stop what uses that port, "
            "or choose another with --rest-port"
        ) from error
    return server, server.server_port
