"""HTTP itself: bodies in chunks and packed, limits, other origins, and what is no request at all."""

import gzip
import http.client
import json
import socket
import threading

import pytest

from serving.server import http_body
from tests.serving_by_hand import served

PATH = "/v1/models/plain:predict"
BODY = b'{"inputs": [1.5, 2]}'
ANSWER = {"outputs": [3.0, 4.0]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(tmp_path_factory.mktemp("http")) as running:
        yield running


@pytest.fixture
def connection(server):
    opened = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    yield opened
    opened.close()


def ask(connection, method, path, body=None, chunked=False, **headers):
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, sent, encode_chunked=chunked)
    response = connection.getresponse()
    return response.status, response.headers, response.read()


def raw(server, sent):
    """What comes back for bytes, until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=30) as opened:
        opened.sendall(sent)
        received = b""
        while part := opened.recv(65536):
            received += part
    return received


def test_a_body_in_chunks_is_one_body_and_the_connection_goes_on(connection):
    for parts in ([BODY], [BODY[:3], BODY[3:4], BODY[4:]]):
        status, _, answer = ask(connection, "POST", PATH, iter(parts), chunked=True, Transfer_Encoding="chunked")
        assert (status, json.loads(answer)) == (200, ANSWER)


def test_trailers_behind_the_chunks_are_read_over(server):
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunks = b"%x;name=value\r\n%s\r\n0\r\nChecksum: 1\r\n\r\n" % (len(BODY), BODY)
    assert raw(server, head + chunks).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("headers", "sent", "said"),
    [
        ("Transfer-Encoding: chunked", b"zz\r\n", "not in chunks"),
        ("Transfer-Encoding: chunked", b"3\r\nabcd\r\n0\r\n\r\n", "not in chunks"),
        ("Transfer-Encoding: chunked", b"ffffffff\r\n", "more than"),
        ("Transfer-Encoding: chunked", b"0\r\n" + b"a: b\r\n" * 200, "trailers"),
        ("Transfer-Encoding: gzip", b"", "Transfer-Encoding is gzip: expected chunked"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3", b"0\r\n\r\n", "no Content-Length beside it"),
        ("Content-Length: 99999999999999999999", b"", "Content-Length is 99999999999999999999: expected 0 to"),
        ("Content-Length: -1", b"", "Content-Length is -1"),
        ("Content-Length: \xb2", b"", "Content-Length is"),
    ],
)
def test_a_body_without_a_clear_end_is_refused_and_the_connection_closed(server, headers, sent, said):
    answer = raw(server, f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n".encode("latin-1") + sent)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in head
    assert said in json.loads(body)["error"]


def test_a_packed_body_is_unpacked(connection):
    status, _, answer = ask(connection, "POST", PATH, gzip.compress(BODY), Content_Encoding="gzip")
    assert (status, json.loads(answer)) == (200, ANSWER)


@pytest.mark.parametrize(
    ("body", "said"),
    [(BODY, "not packed by gzip"), (gzip.compress(BODY, mtime=0)[:-3], "cut short"), (b"", "cut short")],
)
def test_a_body_that_is_not_packed_as_it_says_is_refused(connection, body, said):
    status, _, answer = ask(connection, "POST", PATH, body, Content_Encoding="gzip")
    assert status == 400
    assert said in json.loads(answer)["error"]


def test_a_small_body_that_unpacks_to_a_huge_one_is_refused(connection):
    bomb = gzip.compress(b" " * (http_body.BODY_MAX_BYTES + 1))
    assert len(bomb) < 1 << 20
    status, _, answer = ask(connection, "POST", PATH, bomb, Content_Encoding="gzip")
    assert (status, b"once unpacked" in answer) == (400, True)


def test_a_long_answer_is_packed_where_that_is_asked_for(connection):
    body = json.dumps({"inputs": [1] * 1000}).encode()
    _, plain_headers, plain = ask(connection, "POST", PATH, body)
    assert plain_headers["Content-Encoding"] is None
    _, headers, packed = ask(connection, "POST", PATH, body, Accept_Encoding="deflate, gzip;q=0.5")
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed) == plain
    for refused in ("identity", "gzip;q=0", "gzip;q=0.0, br"):
        assert ask(connection, "POST", PATH, body, Accept_Encoding=refused)[2] == plain
    assert ask(connection, "POST", PATH, BODY, Accept_Encoding="gzip")[1]["Content-Encoding"] is None


def test_a_head_has_no_body(server):
    answer = raw(server, b"HEAD /v1/models/plain HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01 hello\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"a b c d\r\n\r\n"]
)
def test_what_is_no_request_gets_an_answer_and_harms_nobody(server, connection, sent):
    assert b'"error"' in raw(server, sent)
    assert ask(connection, "POST", PATH, BODY)[0] == 200


def test_paths_outside_the_protocol_are_not_found(connection):
    assert ask(connection, "GET", "/")[0] == 404
    assert ask(connection, "POST", "/v2/models/plain/infer", b"{}")[0] == 404


def test_other_origins_may_call_only_where_that_is_switched_on(connection, tmp_path):
    _, headers, _ = ask(connection, "POST", PATH, BODY, Origin="https://shop.example")
    assert headers["Access-Control-Allow-Origin"] is None
    with served(tmp_path, cors=True) as open_to_all:
        other = http.client.HTTPConnection("127.0.0.1", open_to_all.rest_port, timeout=30)
        status, headers, content = ask(other, "OPTIONS", PATH, Origin="https://shop.example")
        assert (status, content) == (200, b"")
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert headers["Access-Control-Allow-Methods"] == "POST, GET"
        assert headers["Access-Control-Allow-Headers"] == "Content-Type"
        assert ask(other, "POST", PATH, BODY)[1]["Access-Control-Allow-Origin"] == "*"
        assert ask(other, "GET", "/v1/models/nobody")[1]["Access-Control-Allow-Origin"] == "*"
        other.close()


@pytest.mark.parametrize("origin", [{}, {"Origin": "file://x"}])
def test_a_preflight_of_no_web_page_is_refused(connection, origin):
    status, _, answer = ask(connection, "OPTIONS", PATH, **origin)
    assert (status, json.loads(answer)["error"]) == (400, "Origin header is missing in CORS preflight")


def test_more_connections_than_there_is_room_for_are_refused_and_room_comes_back(tmp_path, monkeypatch):
    room = threading.BoundedSemaphore(1)
    with served(tmp_path) as small:
        monkeypatch.setattr(small.rest_server, "_room", room)
        first = http.client.HTTPConnection("127.0.0.1", small.rest_port, timeout=30)
        assert ask(first, "POST", PATH, BODY)[0] == 200
        assert raw(small, b"").startswith(b"HTTP/1.1 503 ")
        first.close()
        assert room.acquire(timeout=30), "the connection's end makes room"
        room.release()
        assert ask(first, "POST", PATH, BODY)[0] == 200
        first.close()
