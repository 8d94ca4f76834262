"""A server whose versions come and break, that hangs, is killed, and comes back, while a client keeps asking."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from plumbline.errors import ModelUnavailable
from serving.client import ModelClient
from tests.serving_model import columns
from tests.serving_process import ModelServer, until


class Life:
    """A server of its own base path; `publish` puts a version there as a trainer does, by renaming a whole folder."""

    def __init__(self, models, server):
        self.models = models
        self.server = server
        self.newest = 0

    def next_folder(self):
        self.newest += 1
        return self.server.base_path / str(self.newest)

    def publish(self, which):
        folder = self.next_folder()
        hidden = folder.with_name(f"{folder.name}.tmp")
        shutil.copytree(self.models / str(which), hidden)
        hidden.rename(folder)
        return self.newest


@pytest.fixture(scope="module")
def life(request, tmp_path_factory):
    server = ModelServer(tmp_path_factory.mktemp("life"), tmp_path_factory.mktemp("log") / "serve.log")
    with server:
        # Nothing to serve yet: it waits, and says so.
        with ModelClient(server.target, "plumbline", 30_000) as client:
            with pytest.raises(ModelUnavailable, match="Could not find any versions of model plumbline"):
                client.states()
            with pytest.raises(ModelUnavailable, match=r"Servable not found for request: Latest\(plumbline\)"):
                client.score(columns(1))
        started = Life(request.getfixturevalue("models"), server)
        server.wait_for("serving", started.publish(1))
        yield started


@pytest.fixture
def client(life):
    with ModelClient(life.server.target, "plumbline", 30_000) as connected:
        yield connected


@pytest.fixture(scope="module")
def references(models):
    return {which: np.load(models / f"reference-{which}.npz")["score"][:64].tobytes() for which in (1, 2)}


def test_a_new_version_takes_over_without_one_failed_or_mixed_answer(life, client, references):
    asked = columns(257).take(np.arange(64))
    before = client.score(asked).model_version
    stop = threading.Event()

    def keep_asking():
        answers = []
        while not stop.is_set():
            scored = client.score(asked)
            answers.append((scored.model_version, scored.values.tobytes()))
        return answers

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(keep_asking)
        version = life.publish(2)
        try:
            life.server.wait_for("serving", version)
        finally:
            stop.set()
        answers = asking.result()
    answers.append((client.score(asked).model_version, client.score(asked).values.tobytes()))
    old = client.about().fingerprint
    assert {number for number, _ in answers} == {before, version}
    assert sorted(answers, key=lambda answer: answer[0]) == answers
    assert {scores for number, scores in answers if number == version} == {references[2]}
    assert old == "00000000000000b2"
    assert client.states()[before] == "END"


def test_a_corrupt_version_is_refused_and_heals(life, client):
    before = client.score(columns(1)).model_version
    folder = life.next_folder()
    hidden = folder.with_name("corrupt.tmp")
    shutil.copytree(life.models / "1", hidden)
    weights = hidden / "variables" / "variables.data-00000-of-00001"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    hidden.rename(folder)
    until(lambda: client.states().get(life.newest) == "END")
    assert client.score(columns(1)).model_version == before
    refused = reason(life.server, life.newest)
    assert refused["error_code"] != "OK"
    assert f"{life.newest} does not load" in refused["error_message"]
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(whole)
    life.server.wait_for("serving", life.newest)
    assert client.score(columns(1)).model_version == life.newest


def reason(server, version):
    """What the server says of a version's state, over REST."""
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/plumbline/versions/{version}"
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.load(response)["model_version_status"][0]["status"]


def test_a_folder_that_holds_no_savedmodel_is_refused_with_the_reason(life, client):
    before = client.score(columns(1)).model_version
    folder = life.next_folder()
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"no model at all")
    until(lambda: client.states().get(life.newest) == "END")
    refused = reason(life.server, life.newest)
    assert refused["error_code"] == "DATA_LOSS"
    assert "saved_model.pb cannot be read" in refused["error_message"]
    assert client.score(columns(1)).model_version == before
    shutil.rmtree(folder)


def test_a_version_copied_piece_by_piece_is_served_once_it_is_whole(life, client, references):
    asked = columns(257).take(np.arange(64))
    before = client.score(asked).model_version
    folder = life.next_folder()
    folder.mkdir()
    source = life.models / "2"
    (folder / "saved_model.pb").write_bytes((source / "saved_model.pb").read_bytes())
    until(lambda: client.states().get(life.newest) == "END")  # complete it never was, and it stood still: refused
    assert client.score(asked).model_version == before
    shutil.copytree(source, folder, dirs_exist_ok=True)
    life.server.wait_for("serving", life.newest)
    scored = client.score(asked)
    assert (scored.model_version, scored.values.tobytes()) == (life.newest, references[2])


def test_a_server_that_hangs_costs_twice_the_deadline_and_is_found_again(life):
    with ModelClient(life.server.target, "plumbline", 500) as hasty:
        until(lambda: scored(hasty))
        life.server.freeze()
        try:
            started = time.monotonic()
            with pytest.raises(ModelUnavailable, match="DEADLINE_EXCEEDED"):
                hasty.score(columns(3))
            assert time.monotonic() - started < 3.0  # twice 0.5 s, and what a busy machine adds
        finally:
            life.server.thaw()
        until(lambda: scored(hasty))


def scored(client):
    try:
        return client.score(columns(3))
    except ModelUnavailable:
        return None


def test_a_server_that_is_killed_is_found_again_when_it_comes_back(life):
    with ModelClient(life.server.target, "plumbline", 2_000) as asking:
        until(lambda: scored(asking))
        life.server.kill()
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(ModelUnavailable):
                asking.score(columns(3))
            assert time.monotonic() - started < 6.0
        life.server.start()
        life.server.wait_for("serving", life.newest)
        found = until(lambda: scored(asking), seconds=10)
        assert found.model_version == life.newest


def test_a_port_in_use_ends_with_one_sentence_that_says_what_to_do(life):
    arguments = ["--model-base-path", str(life.server.base_path), "--port", str(life.server.port), "--rest-port", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "plumbline.cli.main", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("plumbline: ")]
    assert f"gRPC cannot listen on {life.server.target}" in sentence
    assert "--port" in sentence
    assert "Traceback" not in done.stderr


def test_a_rest_port_in_use_ends_with_one_sentence_too(life):
    arguments = [
        "--model-base-path",
        str(life.server.base_path),
        "--port",
        "0",
        "--rest-port",
        str(life.server.rest_port),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "plumbline.cli.main", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "REST cannot listen" in done.stderr
    assert "--rest-port" in done.stderr


def test_a_base_path_that_is_a_file_is_told(tmp_path):
    (tmp_path / "model").write_text("")
    arguments = ["--model-base-path", str(tmp_path / "model"), "--port", "0", "--rest-port", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "plumbline.cli.main", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "is a file: --model-base-path takes the folder" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_and_frees_its_ports(tmp_path, number):
    server = ModelServer(tmp_path / "none", tmp_path / "serve.log").start()
    server.signal(number)
    assert server.process.wait(60) == 0
    again = ModelServer(tmp_path / "none", tmp_path / "serve.log", port=server.port).start()
    assert again.port == server.port
    assert again.stop() == 0
