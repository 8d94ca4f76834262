"""The quick reader of JSON lists says what the careful one says, to the bit and to the letter, or nothing."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import wire_pb2 as wire
from serving.server import json_quick, json_request
from serving.server.model import Slot
from serving.server.status import StatusError
from serving.tensors import NUMERIC

NUMBERS = st.integers(-(2**65), 2**65) | st.integers(-300, 300) | st.floats() | st.floats(width=32)
VALUES = NUMBERS | st.booleans() | st.text(max_size=3) | st.none() | st.just({"b64": "YQ=="})
NUMBERED = (wire.DT_INT64, wire.DT_INT8, wire.DT_UINT32, wire.DT_FLOAT, wire.DT_DOUBLE, wire.DT_BOOL)
SLOTS = {number: Slot(number, NUMERIC[number][0], None) for number in NUMBERED}
SLOTS[wire.DT_STRING] = Slot(wire.DT_STRING, np.dtype(object), None)


@st.composite
def nested(draw):
    """A tensor of one kind of value, or something else: of several kinds, or ragged."""
    each = draw(st.sampled_from([st.integers(-100, 100), st.floats(), st.booleans(), st.text(max_size=3), VALUES]))
    width = draw(st.integers(0, 3))
    row = st.lists(each, min_size=width, max_size=width)
    return draw(
        st.one_of(each, row, st.lists(row, min_size=1, max_size=3), st.lists(st.lists(each, max_size=2), max_size=3))
    )


def read(document, slots):
    """What the document says, as types, shapes and bytes; or the complaint."""
    try:
        form, arrays = json_request.arrays(document, slots)
    except StatusError as error:
        return error.message
    return form, {
        name: (values.dtype, values.shape, values.tolist() if values.dtype == object else values.tobytes())
        for name, values in arrays.items()
    }


@given(nested(), st.sampled_from(list(SLOTS)), st.sampled_from(["inputs", "instances"]))
@settings(max_examples=300)
def test_it_agrees_with_the_careful_reader(value, number, form):
    document = {form: value}
    with patch.object(json_quick, "array", return_value=None):
        careful = read(document, {"x": SLOTS[number]})
    assert read(document, {"x": SLOTS[number]}) == careful


@given(st.lists(st.dictionaries(st.sampled_from("ab"), nested(), max_size=2), min_size=1, max_size=3))
def test_it_agrees_on_rows_of_several_inputs(rows):
    slots = {"a": SLOTS[wire.DT_INT64], "b": SLOTS[wire.DT_FLOAT]}
    with patch.object(json_quick, "array", return_value=None):
        careful = read({"instances": rows}, slots)
    assert read({"instances": rows}, slots) == careful


@pytest.mark.parametrize(
    ("value", "number", "shape"),
    [
        ([1, 2], wire.DT_INT64, (2,)),
        ([[1.5], [float("nan")]], wire.DT_FLOAT, (2, 1)),
        (["a", ""], wire.DT_STRING, (2,)),
        ([True], wire.DT_BOOL, (1,)),
    ],
)
def test_what_is_well_formed_is_read_quickly(value, number, shape):
    assert json_quick.array(value, SLOTS[number], shape).shape == shape
