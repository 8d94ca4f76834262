"""`plumbline web` as a process: quick to start, plain about what is wrong, and quick to stop."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import sqlalchemy as sa

from store.engine import engine_at
from store.schema import migrate

START_SECONDS = 2.0


@pytest.fixture
def environment(tmp_path, built_frontend):
    """The environment of a console on a laptop, with a migrated store."""
    engine = engine_at(sa.URL.create("sqlite", database=str(tmp_path / "plumbline.db")))
    migrate(engine)
    engine.dispose()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE_")}
    return kept | {
        "PLUMBLINE_DATA_DIR": str(tmp_path),
        "PLUMBLINE_HTTPS_ONLY": "false",
        "PLUMBLINE_SECRET_KEY": "k" * 32,
        "PLUMBLINE_PASSWORD_SALT": "s" * 16,
    }


def web(environment, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "plumbline.cli.main", "web", *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def refusal(environment, *arguments):
    process = web(environment, *arguments)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    return error.strip()


def test_it_prints_its_address_answers_and_stops_at_once_even_with_a_stream_open(environment):
    process = web(environment, "--port", "0", "--json")
    try:
        url = json.loads(process.stdout.readline())["url"]
        with urllib.request.urlopen(f"{url}readyz") as answer:
            assert answer.read() == b'{"status":"ready"}\n'
        held = socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1].strip("/"))))
        held.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert time.monotonic() - started < 10
        held.close()
    finally:
        process.kill()
        process.communicate()


def test_it_starts_within_two_seconds_of_processor_time_and_without_tensorflow(environment):
    code = (
        "import sys, time\n"
        "from app import create_app\n"
        "import app.server\n"
        "from plumbline.settings import load\n"
        "from store.engine import open_engine\n"
        "from store.schema import require_current\n"
        "settings = load(); engine = open_engine(settings); create_app(settings, engine); require_current(engine)\n"
        "heavy = {'tensorflow', 'apache_beam', 'tensorflow_transform', 'keras', 'numba', 'pyarrow', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)), time.process_time())\n"
    )
    took = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        heavy, _, seconds = done.stdout.strip().rpartition(" ")
        assert heavy == "[]"
        took.append(float(seconds))
    # the best of three: a busy neighbour on the same core makes processor time longer too
    assert min(took) < START_SECONDS


def test_a_port_in_use_is_one_sentence(environment):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is in use" in refusal(environment, "--port", str(port))


def test_an_address_that_is_not_ours_is_one_sentence(environment):
    assert "cannot listen on 203.0.113.1" in refusal(environment, "--host", "203.0.113.1", "--port", "0")


def test_a_missing_secret_is_one_sentence(environment):
    error = refusal(
        {name: value for name, value in environment.items() if name != "PLUMBLINE_SECRET_KEY"}, "--port", "0"
    )
    assert "PLUMBLINE_SECRET_KEY is not set" in error
    assert len(error.splitlines()) == 1


def test_tables_that_were_never_made_are_one_sentence(environment, tmp_path):
    error = refusal(environment | {"PLUMBLINE_DATA_DIR": str(tmp_path / "new")}, "--port", "0")
    assert "plumbline migrate" in error
