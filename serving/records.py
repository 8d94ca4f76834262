"""TFRecord files: length-prefixed records with masked CRC-32C checksums, read and written without TensorFlow.

Warm-up requests and request logs are such files of PredictionLog messages, for TensorFlow Serving as for our server.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

import crc32c

from plumbline.errors import Invalid

_LENGTH: Final = struct.Struct("<Q")
_CHECKSUM: Final = struct.Struct("<I")
_MASK: Final = 0xA282EAD8


def framed(record: bytes) -> bytes:
    """A record as it stands in a file: its length, the length's checksum, itself, its own checksum."""
    length = _LENGTH.pack(len(record))
    return b"".join((length, _CHECKSUM.pack(_masked(length)), record, _CHECKSUM.pack(_masked(record))))


def records(file: BinaryIO) -> Iterator[bytes]:
    """The records of a file, one at a time. Raises Invalid where the file is no TFRecord file, or is cut short."""
    start = 0
    while head := file.read(_LENGTH.size + _CHECKSUM.size):
        length = _checked(head, _LENGTH.size, start)
        (size,) = _LENGTH.unpack(length)
        yield _checked(file.read(size + _CHECKSUM.size), size, start)
        start = file.tell()


def _checked(found: bytes, size: int, start: int) -> bytes:
    """So many bytes, which their checksum follows."""
    body, checksum = found[:size], found[size:]
    if len(checksum) != _CHECKSUM.size:
        raise Invalid("TFRecord file", "size", f"cut short in the record at byte {start}", "whole records")
    if _CHECKSUM.unpack(checksum)[0] != _masked(body):
        raise Invalid("TFRecord file", "checksum", f"corrupted record at {start}", "the checksum of what was written")
    return body


def _masked(data: bytes) -> int:
    """The checksum, turned around and shifted, so that a checksum of checksums still tells something."""
    checksum = crc32c.crc32c(data)
    return ((checksum >> 15 | checksum << 17) + _MASK) & 0xFFFFFFFF
