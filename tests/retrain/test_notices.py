"""How a night ended reaches whoever has to know, once at least, whatever the hooks do."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from plumbline.errors import InvalidSetting
from retrain.manifest import Manifest, StepRecord
from retrain.notify import Hooks, deliver, notice, put


class Receiver(ThreadingHTTPServer):
    """Takes what is posted, or answers with the statuses that a test gives it first."""

    def __init__(self):
        self.taken, self.statuses = [], []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = receiver.statuses.pop(0) if receiver.statuses else 204
                receiver.taken.append((status, dict(self.headers), body))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}/nights"


@pytest.fixture
def receiver():
    found = Receiver()
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def waits():
    return []


def night(verdict="refused", at=5, **facts):
    return Manifest(
        run="2026-01-31-1a2b3c4d", arguments={}, verdict=verdict, started_at=1, updated_at=at, step="gate", champion=1,
        error="card precision fell", steps=(StepRecord(name="gate", facts={"failed_checks": ["cp100"]}),), **facts,
    )  # fmt: skip


def test_a_webhook_gets_words_figures_and_a_key(tmp_path, receiver, waits):
    hooks = Hooks(url=receiver.address, token="secret")
    assert put(tmp_path / "outbox", night(), hooks)
    assert deliver(tmp_path / "outbox", hooks, waits.append) == 0
    ((_, headers, body),) = receiver.taken
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Idempotency-Key"] == body["id"] == "2026-01-31-1a2b3c4d-1-refused"
    assert body["text"] == (
        "Night 2026-01-31-1a2b3c4d: the gate refused the candidate, and version 1 stays: card precision fell"
    )
    assert (body["failed_checks"], waits) == (["cp100"], [])


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_receiver_that_is_ill_is_asked_three_times_and_again_with_the_next_start(tmp_path, receiver, waits, status):
    hooks, told = Hooks(url=receiver.address), []
    put(tmp_path / "outbox", night(), hooks)
    receiver.statuses = [status] * 3
    assert deliver(tmp_path / "outbox", hooks, waits.append, told.append) == 1
    assert (len(receiver.taken), waits, len(told)) == (3, [1.0, 4.0], 1)
    assert str(status) in told[0]
    assert deliver(tmp_path / "outbox", hooks, waits.append) == 0
    assert len({body["id"] for _, _, body in receiver.taken}) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_a_receiver_that_says_no_is_not_pressed(tmp_path, receiver, waits, status):
    hooks = Hooks(url=receiver.address)
    put(tmp_path / "outbox", night(), hooks)
    receiver.statuses = [status] * 3
    assert deliver(tmp_path / "outbox", hooks, waits.append) == 1
    assert len(receiver.taken) == (1 if status != 302 else 3)


def test_a_hook_that_fails_leaves_the_others_alone_and_none_is_told_twice(tmp_path, receiver, waits):
    taken = tmp_path / "nights.jsonl"
    put_there = "import json, sys; open(sys.argv[1], 'a').write(json.load(sys.stdin)['verdict'] + chr(10))"
    written = tmp_path / "command.txt"
    hooks = Hooks(
        command=f'{sys.executable} -c "{put_there}" {written}', url="http://127.0.0.1:9/nowhere", file=str(taken)
    )
    put(tmp_path / "outbox", night(), hooks)
    put(tmp_path / "outbox", night("failed", 6), hooks)
    told = []
    assert deliver(tmp_path / "outbox", hooks, waits.append, told.append) == 2
    assert len(told) == 1, "what does not answer is asked about one notice a start"
    again = Hooks(command=hooks.command, url=receiver.address, file=hooks.file)
    assert deliver(tmp_path / "outbox", again, waits.append) == 0
    assert [body["verdict"] for _, _, body in receiver.taken] == ["refused", "failed"], "the oldest first"
    assert [json.loads(line)["verdict"] for line in taken.read_text().splitlines()] == ["refused", "failed"]
    assert written.read_text().split() == ["refused", "failed"]


def test_a_command_that_fails_is_told(tmp_path, waits):
    hooks, told = Hooks(command="false"), []
    put(tmp_path / "outbox", night(), hooks)
    assert deliver(tmp_path / "outbox", hooks, waits.append, told.append) == 1
    assert "the command hook took nothing" in told[0]


def test_no_hook_or_another_verdict_gives_no_notice(tmp_path):
    assert not put(tmp_path / "outbox", night(), Hooks())
    assert not put(tmp_path / "outbox", night("stopped"), Hooks(file="x"))
    assert not (tmp_path / "outbox").exists()


def test_a_hook_that_was_taken_out_of_the_settings_is_waited_for_no_more(tmp_path, waits):
    put(tmp_path / "outbox", night(), Hooks(url="http://127.0.0.1:9/nowhere"))
    assert deliver(tmp_path / "outbox", Hooks(file=str(tmp_path / "f")), waits.append) == 0


def test_an_outbox_that_nobody_empties_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("retrain.notify.KEPT_MOST", 3)
    for at in range(10, 20):
        put(tmp_path / "outbox", night(at=at), Hooks(file="x"))
    assert [each.name[:2] for each in sorted((tmp_path / "outbox").iterdir())] == ["17", "18", "19"]


def test_an_address_of_another_kind_is_refused():
    with pytest.raises(InvalidSetting, match="https://"):
        Hooks(url="ftp://bank.example/nights")


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("shadowed", "version 2 scores beside version 1"),
        ("registered", "version 2 is a candidate"),
        ("failed", "step gate failed, and nothing changed"),
        ("stopped", "goes on when started again"),
    ],
)
def test_words_for_every_verdict(verdict, words):
    assert words in notice(night(verdict, version=2))["text"]
