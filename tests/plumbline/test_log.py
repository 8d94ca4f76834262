"""Log lines: one each, in UTC, ours and the libraries' alike."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from plumbline.cli import log


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_json_lines_hold_level_time_words_and_facts() -> None:
    stream = io.StringIO()
    log.configure("json", stream)
    structlog.get_logger().info("batch journaled", transactions=512)
    logging.getLogger("sqlalchemy").warning("pool is %s", "full")
    ours, library = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert ours["event"] == "batch journaled"
    assert ours["transactions"] == 512
    assert ours["level"] == "info"
    assert ours["timestamp"].endswith("Z")
    assert library["event"] == "pool is full"
    assert library["level"] == "warning"


def test_a_line_feed_in_a_value_cannot_forge_a_second_json_line() -> None:
    stream = io.StringIO()
    log.configure("json", stream)
    structlog.get_logger().warning("rejected", value="x\n{}")
    assert len(stream.getvalue().splitlines()) == 1


def test_console_lines_carry_no_colour_codes_into_a_file() -> None:
    stream = io.StringIO()
    log.configure("console", stream)
    structlog.get_logger().info("leading", generation=3)
    assert "leading" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_an_exception_is_written_with_its_traceback() -> None:
    stream = io.StringIO()
    log.configure("json", stream)
    try:
        raise KeyError("slot")
    except KeyError:
        structlog.get_logger().exception("snapshot failed")
    line = json.loads(stream.getvalue())
    assert "KeyError: 'slot'" in line["exception"]


def test_talkative_libraries_are_heard_from_warning_upwards() -> None:
    stream = io.StringIO()
    log.configure("json", stream)
    logging.getLogger("kafka.client").info("metadata")
    logging.getLogger("kafka.client").warning("disconnected")
    assert "metadata" not in stream.getvalue()
    assert "disconnected" in stream.getvalue()


def test_configuring_again_writes_each_line_once() -> None:
    stream = io.StringIO()
    log.configure("json", stream)
    log.configure("json", stream)
    structlog.get_logger().info("once")
    assert stream.getvalue().count("once") == 1
