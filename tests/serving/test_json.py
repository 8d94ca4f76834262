"""REST bodies to arrays and arrays to REST answers: tables of requests, texts and layouts."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import wire_pb2 as wire
from serving.server import json_answer, json_request, json_text
from serving.server.model import Slot
from serving.server.status import Code, StatusError

ONE = {"x": Slot(wire.DT_FLOAT, np.dtype(np.float32), (None,))}
TWO = {
    "amount": Slot(wire.DT_INT64, np.dtype(np.int64), (None,)),
    "code": Slot(wire.DT_STRING, np.dtype(object), (None,)),
}


def parsed(text, slots):
    document = json_text.parse(text.encode())
    form, arrays = json_request.arrays(document, slots)
    return form, {name: values.tolist() for name, values in arrays.items()}


@pytest.mark.parametrize(
    ("text", "slots", "form", "arrays"),
    [
        ('{"instances": [1, 2.5]}', ONE, "row", {"x": [1.0, 2.5]}),
        ('{"instances": [[1, 2], [3, 4]]}', ONE, "row", {"x": [[1, 2], [3, 4]]}),
        ('{"instances": [{"x": 1}, {"x": 2}]}', ONE, "row", {"x": [1, 2]}),
        (
            '{"instances": [{"amount": 5, "code": "a"}, {"code": {"b64": "/w=="}, "amount": -6}]}',
            TWO,
            "row",
            {"amount": [5, -6], "code": [b"a", b"\xff"]},
        ),
        ('{"inputs": [1, 2]}', ONE, "column", {"x": [1, 2]}),
        ('{"inputs": 3}', ONE, "column", {"x": 3}),
        ('{"inputs": {"x": [1]}}', ONE, "column", {"x": [1]}),
        ('{"inputs": {"amount": [1], "code": ["é"]}}', TWO, "column", {"amount": [1], "code": ["é".encode()]}),
        ('{"inputs": {"x": []}}', ONE, "column", {"x": []}),
        ('\ufeff {"inputs": {"x": [1e-3, -Infinity, Infinity]}}', ONE, "column", {"x": [0.001, -math.inf, math.inf]}),
    ],
)
def test_rows_and_columns_become_arrays(text, slots, form, arrays):
    got_form, got = parsed(text, slots)
    assert got_form == form
    if "x" in arrays and isinstance(arrays["x"], list):
        arrays = {"x": np.float32(arrays["x"]).tolist()}
    assert got == arrays


def test_nan_is_read_as_a_number():
    _, arrays = parsed('{"instances": [NaN, 1]}', ONE)
    assert math.isnan(arrays["x"][0])


@pytest.mark.parametrize(
    ("text", "slots", "message"),
    [
        ("", ONE, "JSON Parse error: The document is empty"),
        ("  ", ONE, "JSON Parse error: The document is empty. at offset: 2"),
        ("[1]", ONE, "JSON Value: [\n    1\n] Is not object"),
        ('{"inputs": x}', ONE, "JSON Parse error: Invalid value. at offset: 11"),
        ('{"inputs": [1 2]}', ONE, "JSON Parse error: Missing a comma or ] after an array element. at offset: 14"),
        ('{"a": "}[" "inputs"', ONE, "JSON Parse error: Missing a comma or } after an object member. at offset: 11"),
        ('{"inputs" [1]}', ONE, "JSON Parse error: Missing a colon after a name of object member. at offset: 10"),
        ("{inputs: 1}", ONE, "JSON Parse error: Missing a name for object member. at offset: 1"),
        (
            '{"inputs": [1]} x',
            ONE,
            "JSON Parse error: The document root must not be followed by other values. at offset: 16",
        ),
        ('{"x": [1]}', ONE, "Missing 'inputs' or 'instances' key"),
        ('{"inputs": {"amount": [1]}}', TWO, "Missing named input: code in 'inputs' object."),
        (
            '{"instances": [1, 2]}',
            TWO,
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        (
            '{"inputs": [1, 2]}',
            TWO,
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        ('{"inputs": ["a"]}', ONE, 'JSON Value: "a" Type: String is not of expected type: float'),
        ('{"inputs": [null]}', ONE, "JSON Value: null Type: Null is not of expected type: float"),
        ('{"inputs": [true]}', ONE, "JSON Value: true Type: True is not of expected type: float"),
        (
            '{"inputs": {"amount": [1.5], "code": ["a"]}}',
            TWO,
            "JSON Value: 1.5 Type: Number is not of expected type: int64",
        ),
        (
            '{"inputs": {"amount": [9223372036854775808], "code": ["a"]}}',
            TWO,
            "JSON Value: 9223372036854775808 Type: Number is not of expected type: int64",
        ),
        (
            '{"inputs": {"amount": [1], "code": [5]}}',
            TWO,
            "JSON Value: 5 Type: Number is not of expected type: string",
        ),
        ('{"inputs": {"amount": [1], "code": [{"b64": "*"}]}}', TWO, "Unable to base64 decode"),
        ('{"inputs": [16777217]}', ONE, "Cannot convert JSON value: 16777217 to float without loss of precision."),
        ('{"inputs": [1e39]}', ONE, "Cannot convert JSON value: 1e+39 to float without loss of precision."),
        ('{"inputs": [[1, 2], [3]]}', ONE, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ('{"inputs": [1, [2]]}', ONE, "Encountered list at unexpected level: 1 expected < 1"),
        (
            '{"inputs": [[1], 2]}',
            ONE,
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        ('{"instances": []}', ONE, "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
        ('{"instances": 3}', ONE, "JSON Value: {\n    \"instances\": 3\n} Excepting 'instances' to be an list/array"),
        (
            '{"instances": [{"amount": 1}]}',
            TWO,
            "Failed to process element: 0 of 'instances' list. JSON object: {\n    \"amount\": 1\n} "
            "keys must be equal to: amount,code",
        ),
        (
            '{"instances": [{"amount": 1, "other": 2}]}',
            TWO,
            "Failed to process element: 0 key: other of 'instances' list. Error: "
            "INVALID_ARGUMENT: JSON object: does not have named input: other",
        ),
        (
            '{"instances": [{"amount": 1, "code": "a"}, {"amount": "z", "code": "a"}]}',
            TWO,
            "Failed to process element: 1 key: amount of 'instances' list. Error: "
            'INVALID_ARGUMENT: JSON Value: "z" Type: String is not of expected type: int64',
        ),
        (
            '{"instances": [[1], [1, 2]]}',
            ONE,
            "Failed to process element: 1 of 'instances' list. Error: "
            "INVALID_ARGUMENT: Expecting tensor size: 1 but got: 2",
        ),
        (
            '{"instances": [[1, 2], [[1], [2]]]}',
            ONE,
            "Failed to process element: 1 of 'instances' list. Error: "
            "INVALID_ARGUMENT: Expecting shape [2] but got: [2,1]",
        ),
        ('{"instances": [{"x": 1}, 2]}', ONE, "Expecting object but got list at item 1 of input list"),
        ('{"instances": [1, {"x": 1}]}', ONE, "Expecting value/list but got object at item 1 of input list"),
    ],
)
def test_a_body_that_does_not_fit_is_told_in_the_protocols_words(text, slots, message):
    with pytest.raises(StatusError) as caught:
        parsed(text, slots)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message == message


@pytest.mark.parametrize(
    "body", [b'{"inputs": "\xff"}', b"[" * 100_000, b'{"inputs": ' + b"9" * 5000 + b"}"], ids=["utf8", "deep", "digits"]
)
def test_hostile_bodies_are_refused(body):
    with pytest.raises(StatusError, match="JSON Parse error"):
        json_text.parse(body)


def test_a_signature_name_is_a_text():
    assert json_request.signature_name({}) == ""
    assert json_request.signature_name({"signature_name": "explain"}) == "explain"
    with pytest.raises(StatusError, match="'signature_name' key must be a string value"):
        json_request.signature_name({"signature_name": 3})


@given(st.floats(width=32, allow_nan=False))
def test_a_float32_reads_back_to_the_same_bits(value):
    single = np.float32(value)
    back = json.loads(json_answer.decimal(single))
    assert isinstance(back, float)
    assert np.float32(back).tobytes() == single.tobytes()


@given(st.floats(allow_nan=False))
def test_a_float64_reads_back_to_the_same_bits(value):
    assert np.float64(json.loads(json_answer.decimal(np.float64(value)))).tobytes() == np.float64(value).tobytes()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.2, "0.2"),
        (2, "2.0"),
        (9e6, "9e+06"),
        (3e-5, "3e-05"),
        (1 / 3, "0.333333343"),
        (-0.0, "-0.0"),
        (123456.7, "123456.703"),
    ],
)
def test_floats_are_as_short_as_they_can_be(value, text):
    assert json_answer.decimal(np.float32(value)) == text


def test_the_words_for_what_is_no_number():
    answer = json_answer.text_of({"score": np.float32([np.nan, np.inf, -np.inf])}, "row")
    assert answer == '{\n    "predictions": [NaN, Infinity, -Infinity\n    ]\n}'


@pytest.mark.parametrize(
    ("outputs", "form", "text"),
    [
        ({"score": np.float32([0.5, 1])}, "row", '{\n    "predictions": [0.5, 1.0\n    ]\n}'),
        ({"score": np.float32([[0.5], [1]])}, "row", '{\n    "predictions": [[0.5], [1.0]\n    ]\n}'),
        (
            {"n": np.int64([1, 2]), "s": np.array([b"a", b'"'], object)},
            "row",
            '{\n    "predictions": [\n        {\n            "n": 1,\n            "s": "a"\n        },\n'
            '        {\n            "n": 2,\n            "s": "\\""\n        }\n    ]\n}',
        ),
        ({"score": np.float32([0.5, 1])}, "column", '{\n    "outputs": [\n        0.5,\n        1.0\n    ]\n}'),
        ({"score": np.array(b"abc", object)}, "column", '{\n    "outputs": "abc"\n}'),
        (
            {"flag": np.array([True, False]), "raw_bytes": np.array([b"\xff", b""], object)},
            "column",
            '{\n    "outputs": {\n        "flag": [\n            true,\n            false\n        ],\n'
            '        "raw_bytes": [\n            {"b64": "/w=="},\n            {"b64": ""}\n        ]\n    }\n}',
        ),
    ],
)
def test_answers_are_laid_out_as_the_protocol_has_it(outputs, form, text):
    written = json_answer.text_of(outputs, form)
    assert written == text
    json.loads(written)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"fingerprint": np.array(b"a", object)}, "Tensor name: fingerprint has no shape information "),
        (
            {"a": np.float32([1]), "b": np.float32([1, 2])},
            "Tensor name: b has inconsistent batch size: 2 expecting: 1",
        ),
    ],
)
def test_rows_need_a_common_first_dimension(outputs, message):
    with pytest.raises(StatusError) as caught:
        json_answer.text_of(outputs, "row")
    assert caught.value.message == message
