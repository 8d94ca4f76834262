"""Batches: which rows are computed together and when, and that nobody's answer depends on it."""

import gc
import math
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.errors import Invalid
from serving import wire_pb2 as wire
from serving.server.batch_threads import Batching
from serving.server.batching import Parameters, Piece, Queue, can_be_merged, merged, parameters, split
from serving.server.caller import WAITS
from serving.server.model import Signature, Slot
from serving.server.monitoring import Monitoring
from serving.server.status import Code, StatusError
from tests.serving_process import until


def told(text):
    from google.protobuf import text_format

    return parameters(text_format.Parse(text, wire.BatchingParameters()))


def test_parameters_are_read_as_tensorflow_serving_writes_them_and_default_as_there():
    given = told(
        "max_batch_size { value: 128 } batch_timeout_micros { value: 500 } num_batch_threads { value: 3 }"
        " allowed_batch_sizes: 64 allowed_batch_sizes: 128 thread_pool_name { value: 'pool' }"
    )
    assert given == Parameters(128, 500, 10, 3, "pool", (64, 128))
    assert (told("").max_batch_size, told("").batch_timeout_micros, told("").max_enqueued_batches) == (1000, 0, 10)
    large = told(
        "max_batch_size { value: 128 } enable_large_batch_splitting { value: true }"
        " max_execution_batch_size { value: 32 } allowed_batch_sizes: 32"
    )
    assert (large.execution_size, large.filled(5), large.filled(32)) == (32, 32, 32)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("max_batch_size { value: 0 }", "max_batch_size is 0: expected 1 or more"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros is -1: expected 0 or more"),
        ("pad_variable_length_inputs: true", "pad_variable_length_inputs is True: expected false"),
        ("allowed_batch_sizes: 8 allowed_batch_sizes: 8", "expected monotonically increasing sizes"),
        ("allowed_batch_sizes: 8", "expected 1000, the largest batch, as the last"),
        (
            "max_batch_size { value: 8 } max_execution_batch_size { value: 9 }",
            "max_execution_batch_size is 9: expected",
        ),
    ],
)
def test_parameters_that_contradict_themselves_are_refused(text, complaint):
    with pytest.raises(Invalid, match=complaint):
        told(text)


@st.composite
def plans(draw):
    """Parameters, and tasks with the times between them."""
    size = draw(st.integers(1, 12))
    splitting = draw(st.booleans())
    settings = Parameters(
        max_batch_size=size,
        batch_timeout_micros=draw(st.integers(0, 20)),
        max_enqueued_batches=draw(st.integers(1, 4)),
        num_batch_threads=1,
        enable_large_batch_splitting=splitting,
        max_execution_batch_size=draw(st.integers(1, size)) if splitting else 0,
    )
    steps = st.one_of(st.tuples(st.just("add"), st.integers(1, 14)), st.tuples(st.just("wait"), st.integers(0, 15)),
                      st.tuples(st.just("take"), st.just(0)))  # fmt: skip
    return settings, draw(st.lists(steps, max_size=40))


def refusal(queue, task, rows, now):
    """The code with which a queue refuses a task; None when it takes it."""
    try:
        queue.add(task, rows, now)
    except StatusError as error:
        return error.code
    return None


@given(plans())
def test_every_row_is_computed_once_in_turn_in_batches_that_are_full_or_old_enough(plan):
    settings, steps = plan
    queue: Queue[int] = Queue(settings)
    now, accepted, added_at, given_out = 0, [], {}, []

    def take():
        waiting = len(accepted) - len(given_out)
        batch = queue.take(now)
        if not batch:
            assert now < queue.ready_at()
            return
        rows = [(piece.task, row) for piece in batch for row in range(piece.start, piece.end)]
        assert len(rows) <= settings.execution_size
        old = now - added_at[batch[0].task] >= settings.batch_timeout_micros
        more = len(rows) < waiting  # the next task found no room in it
        assert old or more or len(rows) == settings.execution_size
        given_out.extend(rows)

    for number, (step, value) in enumerate(steps):
        if step == "wait":
            now += value
        elif step == "take":
            take()
        else:
            code = refusal(queue, number, value, now)
            assert (code is Code.INVALID_ARGUMENT) == (value > settings.max_batch_size)
            if code is None:
                added_at[number] = now
                accepted.extend((number, row) for row in range(value))
    now += settings.batch_timeout_micros
    while queue:
        assert queue.ready_at() <= now
        take()
    assert given_out == accepted
    assert queue.ready_at() == math.inf


def test_a_full_queue_and_a_task_too_large_are_told_in_tensorflow_servings_words():
    queue: Queue[str] = Queue(Parameters(max_batch_size=4, max_enqueued_batches=2, num_batch_threads=1))
    queue.add("a", 3, 0)
    queue.add("b", 4, 0)
    with pytest.raises(StatusError) as caught:
        queue.add("c", 1, 0)
    assert (caught.value.code, caught.value.message) == (
        Code.UNAVAILABLE,
        "The batch scheduling queue to which this task was submitted is full; "
        "currently 2 batches enqueued and max_enqueued_batches is 2",
    )
    with pytest.raises(StatusError, match="Task size 5 is larger than maximum input batch size 4"):
        queue.add("d", 5, 0)
    assert queue.take(0) == [Piece("a", 0, 3)]
    queue.add("c", 1, 0)


def test_a_large_task_is_split_into_what_is_left_and_whole_batches():
    settings = Parameters(
        max_batch_size=10, max_execution_batch_size=4, enable_large_batch_splitting=True, max_enqueued_batches=4
    )
    queue: Queue[str] = Queue(settings)
    queue.add("a", 3, 0)
    queue.add("b", 9, 0)
    with pytest.raises(StatusError, match="task size is 5 but scheduling capacity is only 4"):
        queue.add("c", 5, 0)
    assert [queue.take(0) for _ in range(3)] == [
        [Piece("a", 0, 3), Piece("b", 0, 1)],
        [Piece("b", 1, 5)],
        [Piece("b", 5, 9)],
    ]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 3))
def test_what_was_merged_comes_apart_again(sizes, fill):
    requests = [{"x": np.arange(size) + 10 * size, "t": np.array([b"a"] * size, object)} for size in sizes]
    whole = merged(requests, fill)
    assert len(whole["x"]) == sum(sizes) + fill
    for asked, got in zip(requests, split(whole, sizes, fill), strict=True):
        assert {name: values.tolist() for name, values in got.items()} == {
            name: values.tolist() for name, values in asked.items()
        }


# Threads


def signature(run, outputs=(-1,), inputs=(None,)):
    definition = wire.SignatureDef()
    definition.outputs["y"].name = "y:0"
    for size in outputs:
        definition.outputs["y"].tensor_shape.dim.add(size=size)
    slot = Slot(wire.DT_INT64, np.dtype(np.int64), inputs)
    return Signature(definition, {"x": slot}, frozenset({"y"}), run)


def test_only_what_has_rows_is_merged():
    same = signature(lambda inputs: inputs)
    assert can_be_merged(same)
    assert not can_be_merged(signature(lambda inputs: inputs, outputs=()))  # a scalar, such as a fingerprint
    assert not can_be_merged(signature(lambda inputs: inputs, outputs=(4,)))
    assert not can_be_merged(signature(lambda inputs: inputs, inputs=(4,)))
    assert not can_be_merged(signature(lambda inputs: inputs, inputs=()))


class Gate:
    """A graph that squares, fails on negative rows, and whose first call waits until it is let go."""

    def __init__(self):
        self.sizes = []
        self.entered = threading.Event()
        self.go = threading.Event()

    def run(self, inputs):
        self.sizes.append(len(inputs["x"]))
        self.entered.set()
        assert self.go.wait(30)
        if (inputs["x"] < 0).any():
            raise StatusError(Code.INVALID_ARGUMENT, "a negative row")
        return {"y": inputs["x"] ** 2}


@pytest.fixture
def batching():
    made = []

    def make(**settings):
        made.append(Batching(Parameters(**{"num_batch_threads": 1, **settings}), Monitoring()))
        return made[-1]

    yield make
    for each in made:
        each.close()


def held(batching, gate, calls, shape=(None,)):
    """Answers of calls that all come while a first one is computed; they are then computed in turn."""
    merging = batching.merging(signature(gate.run, inputs=shape))

    def call(values):
        try:
            return merging.run({"x": values})["y"]
        except StatusError as error:
            return error

    with ThreadPoolExecutor(len(calls) + 1) as pool:
        first = pool.submit(call, np.zeros((1, *calls[0].shape[1:]), np.int64))
        assert gate.entered.wait(30)
        answers = [pool.submit(call, values) for values in calls]
        until(lambda: batching.waiting() >= len(calls))
        gate.go.set()
        assert first.result().tolist() == np.zeros((1, *calls[0].shape[1:])).tolist()
        return [each.result() for each in answers]


def test_calls_that_come_together_are_computed_as_one(batching):
    gate = Gate()
    calls = [np.arange(n) for n in (3, 1, 4)]
    answers = held(batching(), gate, calls)
    assert [answer.tolist() for answer in answers] == [(values**2).tolist() for values in calls]
    assert sum(gate.sizes) == 9
    assert len(gate.sizes) < 4


def test_one_that_cannot_be_computed_fails_alone(batching):
    answers = held(batching(), Gate(), [np.int64([1]), np.int64([-1]), np.int64([3])])
    assert [answers[0].tolist(), answers[2].tolist()] == [[1], [9]]
    assert (answers[1].code, answers[1].message) == (Code.INVALID_ARGUMENT, "a negative row")


def test_rows_of_another_shape_are_computed_apart(batching):
    gate = Gate()
    answers = held(batching(), gate, [np.ones((2, 3), np.int64), np.ones((1, 4), np.int64)], (None, None))
    assert [answer.shape for answer in answers] == [(2, 3), (1, 4)]


def test_batches_are_filled_up_to_an_allowed_size(batching):
    gate = Gate()
    answers = held(batching(max_batch_size=8, allowed_batch_sizes=(4, 8)), gate, [np.int64([5, 6])])
    assert (answers[0].tolist(), gate.sizes) == ([25, 36], [4, 4])


def test_a_large_call_is_put_together_from_its_parts(batching):
    gate = Gate()
    merging = batching(max_batch_size=50, max_execution_batch_size=7, enable_large_batch_splitting=True)
    answers = held(merging, gate, [np.arange(40)])
    assert answers[0].tolist() == (np.arange(40) ** 2).tolist()
    assert max(gate.sizes) == 7


def test_a_fault_of_the_graph_reaches_whoever_waits(batching):
    def run(inputs):
        raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        batching().merging(signature(run)).run({"x": np.arange(2)})


def test_no_rows_are_answered_at_once(batching):
    gate = Gate()
    gate.go.set()
    assert batching(batch_timeout_micros=10**9).merging(signature(gate.run)).run({"x": np.arange(0)})["y"].size == 0


def test_a_batch_waits_no_longer_than_it_may(batching):
    gate = Gate()
    gate.go.set()
    merging = batching(batch_timeout_micros=2000).merging(signature(gate.run))
    assert merging.run({"x": np.arange(2)})["y"].tolist() == [0, 1]


def test_many_threads_get_their_own_rows(batching):
    gate = Gate()
    gate.go.set()
    shared = batching(num_batch_threads=4, max_batch_size=64, batch_timeout_micros=200, max_enqueued_batches=100)
    merging = [shared.merging(signature(gate.run)) for _ in range(3)]

    def ask(seed):
        random = np.random.default_rng(seed)
        for _ in range(30):
            values = random.integers(0, 1000, random.integers(1, 20))
            assert (merging[seed % 3].run({"x": values})["y"] == values**2).all()

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(ask, range(12)))
    assert shared._monitoring.wrapped_run_count.value() == len(gate.sizes) < 360


def test_a_call_whose_caller_is_gone_is_not_computed(batching):
    gate = Gate()
    shared = batching()
    merging = shared.merging(signature(gate.run))
    gone = threading.Event()

    def call(values, waits):
        WAITS.set(waits)
        try:
            return merging.run({"x": values})["y"].tolist()
        except StatusError as error:
            return error.code

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(call, np.int64([1]), lambda: True)
        assert gate.entered.wait(30)
        leaving = pool.submit(call, np.int64([2]), lambda: not gone.is_set())
        staying = pool.submit(call, np.int64([3]), lambda: True)
        until(lambda: shared.waiting() == 2)
        gone.set()
        gate.go.set()
        assert (first.result(), leaving.result(), staying.result()) == ([1], Code.DEADLINE_EXCEEDED, [9])
    assert gate.sizes == [1, 1]


def test_a_version_that_was_let_go_is_not_held_by_threads_that_wait(batching):
    gate = Gate()
    gate.go.set()
    shared = batching(num_batch_threads=3, batch_timeout_micros=1000)
    merging = shared.merging(signature(gate.run))
    merging.run({"x": np.arange(3)})
    alive = weakref.ref(gate)
    del gate, merging
    until(lambda: gc.collect() is not None and alive() is None)


@given(plans(), st.lists(st.integers(0, 14), min_size=1, max_size=12))
@settings(max_examples=40)
def test_whatever_the_parameters_every_caller_gets_what_it_would_get_alone(plan, sizes):
    told_so, _ = plan
    shared = Batching(replace(told_so, num_batch_threads=2, max_enqueued_batches=1000), Monitoring())

    def run(inputs):
        return {"y": inputs["x"] * 3, "twice": np.stack([inputs["x"], -inputs["x"]], axis=1)}

    merging = shared.merging(signature(run))
    requests = [{"x": np.arange(size) + 100 * number} for number, size in enumerate(sizes)]

    def ask(inputs):
        try:
            return merging.run(inputs)
        except StatusError as error:
            return error

    with ThreadPoolExecutor(len(requests)) as pool:
        answers = list(pool.map(ask, requests))
    shared.close()
    for inputs, answer in zip(requests, answers, strict=True):
        if len(inputs["x"]) > told_so.max_batch_size:
            assert answer.code is Code.INVALID_ARGUMENT
        else:
            alone = run(inputs)
            assert answer.keys() == alone.keys()
            assert all((answer[name] == alone[name]).all() for name in alone)


def test_a_closed_server_takes_no_more(batching):
    closed = batching()
    merging = closed.merging(signature(lambda inputs: inputs))
    closed.close()
    with pytest.raises(StatusError, match="The server is stopping"):
        merging.run({"x": np.arange(2)})
