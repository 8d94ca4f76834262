import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from plumbline.errors import Invalid
from serving import tensors
from serving import wire_pb2 as wire

DTYPES = [dtype for dtype, _ in tensors.NUMERIC.values()]
SHAPES = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)


def sent(values):
    tensor = wire.TensorProto()
    tensors.fill(tensor, values)
    return wire.TensorProto.FromString(tensor.SerializeToString())


@given(st.sampled_from(DTYPES).flatmap(lambda dtype: npst.arrays(dtype, SHAPES)))
def test_numbers_come_back_with_the_same_bits_type_and_shape(values):
    back = tensors.array(sent(values))
    assert back.dtype == values.dtype
    assert back.shape == values.shape
    assert back.tobytes() == values.tobytes()


@given(st.sampled_from(DTYPES).flatmap(lambda dtype: npst.arrays(dtype, SHAPES)))
def test_numbers_in_the_field_of_their_type_come_back_with_the_same_bits(values):
    tensor = wire.TensorProto()
    tensors.fill_fields(tensor, values)
    assert not tensor.tensor_content
    back = tensors.array(wire.TensorProto.FromString(tensor.SerializeToString()))
    assert (back.dtype, back.shape) == (values.dtype, values.shape)
    assert back.tobytes() == values.tobytes()


def test_long_and_empty_columns_in_the_field_of_their_type_are_what_protobuf_itself_writes():
    for size in (0, 1, 31, 32, 4096, 600_000):
        values = np.linspace(-1, 1, size, dtype=np.float32)
        tensor = wire.TensorProto()
        tensors.fill_fields(tensor, values)
        plain = wire.TensorProto(dtype=wire.DT_FLOAT, float_val=values.tolist())
        plain.tensor_shape.dim.add(size=size)
        assert tensor == plain


@given(npst.arrays(object, SHAPES, elements=st.binary(max_size=8)))
def test_texts_come_back_with_the_same_bytes_and_shape(values):
    back = tensors.array(sent(values))
    assert back.shape == values.shape
    assert back.tolist() == values.tolist()


def test_a_list_of_bytes_is_a_tensor_of_rank_one():
    assert tensors.array(sent([b"EUR", b"\xff\x00"])).tolist() == [b"EUR", b"\xff\x00"]


def test_a_column_that_is_not_contiguous_is_sent_in_its_own_order():
    table = np.arange(12, dtype=np.int64).reshape(3, 4)
    assert tensors.array(sent(table[:, 1])).tolist() == [1, 5, 9]
    assert tensors.array(sent(table.T)).tolist() == table.T.tolist()


@pytest.mark.parametrize("value", [0.1, 1e-45, 3.4028235e38, math.nan, -math.inf, -0.0])
def test_floats_in_the_typed_field_keep_their_bits(value):
    wanted = np.array([value, 0.5], np.float32)
    tensor = wire.TensorProto(dtype=wire.DT_FLOAT, float_val=wanted.tolist())
    tensor.tensor_shape.dim.add(size=2)
    assert tensors.array(wire.TensorProto.FromString(tensor.SerializeToString())).tobytes() == wanted.tobytes()


def test_fewer_values_than_the_shape_needs_repeat_the_last_one():
    tensor = wire.TensorProto(dtype=wire.DT_INT64, int64_val=[3, 4])
    tensor.tensor_shape.dim.add(size=4)
    assert tensors.array(tensor).tolist() == [3, 4, 4, 4]
    texts = wire.TensorProto(dtype=wire.DT_STRING, string_val=[b"x"])
    texts.tensor_shape.dim.add(size=3)
    assert tensors.array(texts).tolist() == [b"x", b"x", b"x"]


def test_a_small_integer_out_of_range_wraps_around_as_tensorflow_reads_it():
    values = wire.TensorProto(dtype=wire.DT_UINT8, int_val=[-1, 300, 7])
    values.tensor_shape.dim.add(size=3)
    assert tensors.array(values).tolist() == [255, 44, 7]


def test_no_values_at_all_are_zeros_and_empty_texts():
    shape = wire.TensorShapeProto(dim=[wire.TensorShapeProto.Dim(size=2)])
    assert tensors.array(wire.TensorProto(dtype=wire.DT_FLOAT, tensor_shape=shape)).tolist() == [0, 0]
    assert tensors.array(wire.TensorProto(dtype=wire.DT_STRING, tensor_shape=shape)).tolist() == [b"", b""]


def tensor(sizes, unknown_rank=False, **fields):
    shape = wire.TensorShapeProto(dim=[{"size": size} for size in sizes], unknown_rank=unknown_rank)
    return wire.TensorProto(tensor_shape=shape, **fields)


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        (tensor([2], dtype=wire.DT_FLOAT, tensor_content=b"1234567"), "tensor_content"),
        (tensor([1], dtype=wire.DT_FLOAT, float_val=[1, 2]), "values"),
        (tensor([1], dtype=wire.DT_STRING, string_val=[b"a", b"b"]), "values"),
        (tensor([-1], dtype=wire.DT_FLOAT), "tensor_shape"),
        (tensor([], unknown_rank=True, dtype=wire.DT_FLOAT), "tensor_shape"),
        (tensor([1], dtype=wire.DT_INVALID), "dtype"),
        (tensor([1], dtype=18), "dtype"),
        (tensor([1 << 40, 1 << 40], dtype=wire.DT_FLOAT), "values"),
        (tensor([1 << 40], dtype=wire.DT_STRING, string_val=[b"a"]), "values"),
    ],
)
def test_a_tensor_whose_parts_do_not_fit_is_refused_by_name(broken, field):
    with pytest.raises(Invalid) as caught:
        tensors.array(broken)
    assert caught.value.field == field


def test_a_type_that_the_wire_does_not_carry_is_refused():
    with pytest.raises(Invalid, match="complex128"):
        tensors.fill(wire.TensorProto(), np.zeros(2, np.complex128))
