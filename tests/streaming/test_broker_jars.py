"""Kafka's jars are what the lock says, or nothing starts."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from plumbline.errors import Unready
from streaming.broker import jars
from streaming.broker.jars import Jar


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    file = tmp_path / "test.lock"
    file.write_text(f"# a comment\norg.x:kafka_2.13:1.0 {sha256(b'server')}\norg.y:log:2 {sha256(b'log')}  # another\n")
    return file


def bring(contents: dict[str, bytes]) -> jars.Resolver:
    def resolve(wanted: Sequence[Jar], folder: Path) -> None:
        for jar in wanted:
            (folder / jar.file).write_bytes(contents[jar.artifact])

    return resolve


def test_the_committed_lock_pins_a_kafka_4_server_with_its_logging() -> None:
    pinned = jars.locked()
    assert jars.kafka_version(pinned).startswith("4.")
    assert {"kafka_2.13", "log4j-core", "log4j-slf4j-impl"} <= {jar.artifact for jar in pinned}
    assert all(len(jar.sha256) == 64 for jar in pinned)
    assert len({jar.file for jar in pinned}) == len(pinned)


def test_jars_are_resolved_once(tmp_path: Path, lock: Path) -> None:
    folder = tmp_path / "cache" / "jars"
    jars.ensure(folder, lock, bring({"kafka_2.13": b"server", "log": b"log"}))
    assert {path.name for path in folder.iterdir()} == {"kafka_2.13-1.0.jar", "log-2.jar"}

    def never(_wanted: Sequence[Jar], _folder: Path) -> None:
        raise AssertionError("resolved a second time")

    assert jars.ensure(folder, lock, never) == folder


def test_a_jar_that_differs_from_the_lock_is_refused_and_not_kept(tmp_path: Path, lock: Path) -> None:
    folder = tmp_path / "cache" / "jars"
    with pytest.raises(Unready, match=r"log-2\.jar has SHA-256 .* but the lock says"):
        jars.ensure(folder, lock, bring({"kafka_2.13": b"server", "log": b"another log"}))
    assert list(folder.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (lambda folder: (folder / "log-2.jar").write_bytes(b"lo"), "has SHA-256"),
        (lambda folder: (folder / "log-2.jar").unlink(), "is missing"),
        (lambda folder: (folder / "evil.jar").write_bytes(b"x"), "is not in the lock"),
    ],
)
def test_a_folder_that_was_touched_is_refused_at_the_next_start(tmp_path: Path, lock: Path, harm, complaint) -> None:
    folder = tmp_path / "jars"
    resolve = bring({"kafka_2.13": b"server", "log": b"log"})
    jars.ensure(folder, lock, resolve)
    harm(folder)
    with pytest.raises(Unready, match=complaint) as caught:
        jars.ensure(folder, lock, resolve)
    assert f"delete {folder}" in str(caught.value)


def test_a_resolution_that_fails_says_what_to_do_and_leaves_nothing(
    tmp_path: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin" / "mvn"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho '[ERROR] no route to any repository'\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    folder = tmp_path / "cache" / "jars"
    with pytest.raises(Unready, match=r"no route to any repository.*connect this machine to a Maven repository"):
        jars.ensure(folder, lock)
    assert not folder.exists()


def test_a_new_lock_gets_a_folder_of_its_own(lock: Path) -> None:
    before = jars.shared_folder(lock)
    lock.write_text(lock.read_text() + f"org.z:more:1 {sha256(b'more')}\n")
    assert jars.shared_folder(lock) != before
