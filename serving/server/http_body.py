"""Bodies over HTTP: a request's, with a length or in chunks, plain or packed by gzip, and never larger than allowed."""

import gzip
import re
import zlib
from email.message import Message
from io import BufferedIOBase
from typing import Final

from serving.server.status import invalid

BODY_MAX_BYTES: Final = 64 * 1024 * 1024
LINE_MAX_BYTES: Final = 4096
TRAILERS_MAX: Final = 100
LENGTH: Final = re.compile("[0-9]{1,18}")
CHUNK_SIZE: Final = re.compile(rb"[0-9a-fA-F]{1,8}")
GZIP_BITS: Final = 16 + zlib.MAX_WBITS
PACKED_MIN_BYTES: Final = 1400
"""An answer below this fits in one packet: packing it would only cost time."""


def read(headers: Message, stream: BufferedIOBase) -> bytes:
    """A request's body, unpacked.

    Raises StatusError for one that is too large or malformed; where its end is, is then unknown.
    """
    body = _framed(headers, stream)
    packing = headers.get("Content-Encoding", "identity").strip().lower()
    return _unpacked(body) if packing in ("gzip", "x-gzip") else body


def _framed(headers: Message, stream: BufferedIOBase) -> bytes:
    length = headers.get("Content-Length")
    coding = headers.get("Transfer-Encoding")
    if coding is not None:
        if coding.strip().lower() != "chunked" or length is not None:
            raise invalid(f"Transfer-Encoding is {coding[:20]}: expected chunked, and no Content-Length beside it.")
        return _chunks(stream)
    if length is None:
        return b""
    if not LENGTH.fullmatch(length) or int(length) > BODY_MAX_BYTES:
        raise invalid(f"Content-Length is {length[:20]}: expected 0 to {BODY_MAX_BYTES} bytes.")
    return stream.read(int(length))


def _chunks(stream: BufferedIOBase) -> bytes:
    parts: list[bytes] = []
    size = total = 0
    while True:
        line = stream.readline(LINE_MAX_BYTES).partition(b";")[0].strip()
        if not CHUNK_SIZE.fullmatch(line):
            raise invalid("The request's body is not in chunks, as its Transfer-Encoding says.")
        size = int(line, 16)
        total += size
        if total > BODY_MAX_BYTES:
            raise invalid(f"The request's body has more than {BODY_MAX_BYTES} bytes.")
        if not size:
            break
        parts.append(stream.read(size))
        if stream.readline(LINE_MAX_BYTES).strip():
            raise invalid("The request's body is not in chunks, as its Transfer-Encoding says.")
    for _ in range(TRAILERS_MAX):
        if not stream.readline(LINE_MAX_BYTES).strip():
            return b"".join(parts)
    raise invalid(f"The request has more than {TRAILERS_MAX} trailers.")


def _unpacked(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj(GZIP_BITS)
    try:
        body = unpacker.decompress(packed, BODY_MAX_BYTES + 1)
    except zlib.error as error:
        raise invalid(f"The request's body is not packed by gzip, as its Content-Encoding says: {error}") from error
    if len(body) > BODY_MAX_BYTES:
        raise invalid(f"The request's body has more than {BODY_MAX_BYTES} bytes once unpacked.")
    if not unpacker.eof:
        raise invalid("The request's body is packed by gzip, and cut short.")
    return body


def packed(content: bytes, accepted: str) -> bytes | None:
    """An answer's content packed by gzip, where the request's Accept-Encoding asks for that and it is worth it.

    >>> packed(b"x" * 9999, "gzip, deflate") is None, packed(b"x" * 9999, "gzip;q=0, *;q=0") is None
    (False, True)
    """
    wanted = any(
        re.fullmatch(r"\s*(x-)?gzip\s*(;\s*q=(1|0?\.0*[1-9]).*)?", part.lower()) for part in accepted.split(",")
    )
    return gzip.compress(content, compresslevel=1, mtime=0) if wanted and len(content) >= PACKED_MIN_BYTES else None
