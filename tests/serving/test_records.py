"""TFRecord files without TensorFlow."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.errors import Invalid
from serving.records import framed, records

# What tf.io.TFRecordWriter writes of b"hello".
OFFICIAL = bytes.fromhex("0500000000000000eab2043e68656c6c6fbb1f1c19")


def test_a_record_is_written_as_tensorflow_writes_it():
    assert framed(b"hello") == OFFICIAL


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_what_is_written_is_read(written):
    assert list(records(io.BytesIO(b"".join(map(framed, written))))) == written


@given(st.integers(0, len(OFFICIAL) - 1), st.integers(1, 255))
def test_a_file_that_is_cut_short_or_corrupted_is_refused(at, change):
    with pytest.raises(Invalid, match=r"cut short in the record at byte 0|corrupted record at 0"):
        list(records(io.BytesIO(OFFICIAL[:at] + bytes([OFFICIAL[at] ^ change]) + OFFICIAL[at + 1 :])))
    if at:
        with pytest.raises(Invalid, match="cut short"):
            list(records(io.BytesIO(OFFICIAL[:at])))
