"""`plumbline api` as a real process, its database with keys, and a client that keeps its connection."""

import http.client
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plumbline.cli import main as cli
from plumbline.settings import load
from store.engine import open_engine, transaction
from store.keys import SCOPES, add_key, text_of
from store.schema import migrate
from tests.scorer_process import ANY_AGE
from tests.serving_process import until

PATIENCE_SECONDS = 60.0
SECRET = "s" * 43


@dataclass(frozen=True)
class Reply:
    """What a client was answered."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        """The JSON in it."""
        return json.loads(self.raw)


class ApiProcess:
    """A decision API that answers; `environ` holds its settings. Its group dies as one."""

    def __init__(self, environ: dict[str, str], log: Path, *options: str) -> None:
        self.environ = environ
        self.log = log
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE_")}
        with log.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "plumbline.cli.main", "api", "--port=0", "--grpc-port=0", "--json", *options],
                env=kept | ANY_AGE | environ, stdout=subprocess.PIPE, stderr=output, text=True, start_new_session=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if not said:
            raise AssertionError(f"it did not start: {log.read_text()[-3000:]}")
        self.told = json.loads(said)
        self.grpc_port = self.told["grpc_port"]
        self.port = int(self.told["url"].rstrip("/").rpartition(":")[2])

    def wait_ready(self) -> "ApiProcess":
        """Wait until it can decide."""
        with Client(self.port) as client:
            until(lambda: client.get("/readyz").status == 200, PATIENCE_SECONDS)
        return self

    def kill(self) -> None:
        """End all of it at once, as a crash of the machine would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """End it with SIGTERM; returns its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_SECONDS)

    def end(self) -> None:
        """End it however it is, when a test is over."""
        if self.process.poll() is None:
            self.kill()


class Client:
    """One connection to an API."""

    def __init__(self, port: int, key: str = "") -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def decide(self, body: Any, deadline_ms: Any = None, **headers: str) -> Reply:
        """POST /v1/decisions; a body of fields is sent as JSON, one of bytes as it is."""
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        asked = {} if deadline_ms is None else {"Plumbline-Deadline-Ms": str(deadline_ms)}
        wanted = {"Content-Type": "application/json", **self.headers, **asked, **headers}
        return self._ask("POST", "/v1/decisions", sent, wanted)

    def get(self, path: str, **headers: str) -> Reply:
        """GET a path."""
        return self._ask("GET", path, None, {**self.headers, **headers})

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        return Reply(answer.status, dict(answer.getheaders()), answer.read())

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def cli_json(environ: dict[str, str], *arguments: str) -> Any:
    """What a verb prints, in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE_")}
    done = subprocess.run(
        [sys.executable, "-m", "plumbline.cli.main", *arguments, "--json"],
        env=kept | environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == cli.DONE, done.stderr
    return json.loads(done.stdout)


def prepare_store(environ: dict[str, str]) -> str:
    """Tables in the database of these settings, and the text of a key with every scope."""
    engine = open_engine(load(environ))
    migrate(engine)
    with transaction(engine) as session:
        add_key(
            session,
            name="platform",
            scopes=list(SCOPES),
            key_id="0" * 12,
            secret=SECRET,
            created_by="test",
            created_at=1,
        )
    engine.dispose()
    return text_of("0" * 12, SECRET)
