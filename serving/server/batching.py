"""Which requests of one signature are computed together, and when: TensorFlow Serving's batch scheduler as a value.

Nothing here has a clock, a lock or a thread: `serving.server.batch_threads` gives it the time and does what it says.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import numpy as np

from plumbline.errors import Invalid
from serving import wire_pb2 as wire
from serving.server.model import Arrays, Signature
from serving.server.status import Code, StatusError, invalid

Task = TypeVar("Task")

UNSUPPORTED: Final = "pad_variable_length_inputs"


@dataclass(frozen=True, slots=True)
class Parameters:
    """TensorFlow Serving's batching parameters and their defaults; sizes are numbers of rows.

    max_batch_size: most rows of one request, and of what is computed at once unless large ones are split, of which
    execution_size rows are computed at once; max_enqueued_batches: those waiting for a thread, for each signature;
    allowed_batch_sizes: what is computed at once is filled up to one of these (empty: any size).
    Raises Invalid when they contradict one another.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    thread_pool_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise _wrong(name, getattr(self, name), f"{least} or more")
        if self.max_execution_batch_size > self.max_batch_size:
            raise _wrong("max_execution_batch_size", self.max_execution_batch_size, f"at most {self.max_batch_size}")
        sizes = self.allowed_batch_sizes
        if any(size <= before for before, size in zip((0, *sizes), sizes, strict=False)):
            raise _wrong("allowed_batch_sizes", list(sizes), "monotonically increasing sizes, from 1")
        if sizes and sizes[-1] != self.execution_size:
            raise _wrong("allowed_batch_sizes", list(sizes), f"{self.execution_size}, the largest batch, as the last")

    @property
    def execution_size(self) -> int:
        """Most rows that are computed at once."""
        return (self.enable_large_batch_splitting and self.max_execution_batch_size) or self.max_batch_size

    def filled(self, rows: int) -> int:
        """The number of rows that a batch of so many is filled up to."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


_LEAST: Final = {
    "max_batch_size": 1,
    "batch_timeout_micros": 0,
    "max_enqueued_batches": 1,
    "num_batch_threads": 1,
    "max_execution_batch_size": 0,
}


def _wrong(name: str, value: object, allowed: str) -> Invalid:
    return Invalid("batching parameters", name, value, allowed)


def parameters(message: wire.BatchingParameters) -> Parameters:
    """The parameters that a message states, and the defaults of those that it does not. Raises Invalid."""
    if message.pad_variable_length_inputs:
        raise _wrong(UNSUPPORTED, True, "false: filling a request up to the shape of others would change its answer")
    given = {each.name: value for each, value in message.ListFields() if each.name not in {UNSUPPORTED}}
    values = {name: getattr(value, "value", value) for name, value in given.items()}
    if "allowed_batch_sizes" in values:
        values["allowed_batch_sizes"] = tuple(values["allowed_batch_sizes"])
    return Parameters(**values)


def can_be_merged(signature: Signature) -> bool:
    """Whether the requests of a signature can be told apart after they were computed as one.

    They can when every input and output has a first dimension of any size.
    """
    slots = [slot.shape for slot in signature.inputs.values()]
    outputs = [info.tensor_shape for info in signature.definition.outputs.values()]
    return (
        bool(slots)
        and all(shape is not None and shape[:1] == (None,) for shape in slots)
        and all(shape.unknown_rank or (len(shape.dim) > 0 and shape.dim[0].size < 0) for shape in outputs)
    )


def rows_of(inputs: Arrays) -> int:
    """The number of rows in every input of a request. Raises StatusError when they differ."""
    sizes = {len(values) for values in inputs.values()}
    if len(sizes) != 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


@dataclass(frozen=True, slots=True)
class Piece(Generic[Task]):
    """The rows [start, end) of a task; all of them unless a large task was split."""

    task: Task
    start: int
    end: int

    @property
    def rows(self) -> int:
        """How many they are."""
        return self.end - self.start


class Queue(Generic[Task]):
    """The tasks of one signature that wait, in batches; the last batch is still open.

    All times are of the caller's clock, in microseconds.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._closed: deque[list[Piece[Task]]] = deque()
        self._open: list[Piece[Task]] = []
        self._open_rows = 0
        self._opened_at = 0

    def __len__(self) -> int:
        """How many tasks wait; one that was split counts once for each piece."""
        return sum(map(len, self._closed)) + len(self._open)

    def add(self, task: Task, rows: int, now: int) -> None:
        """Let a task of so many rows wait. Raises StatusError when it is too large, or the queue is full."""
        most, size = self._parameters.max_batch_size, self._parameters.execution_size
        if rows > most:
            raise invalid(f"Task size {rows} is larger than maximum input batch size {most}")
        self._check_capacity(rows)
        start = 0
        while True:
            room = size - self._open_rows
            whole = rows - start <= room or not self._parameters.enable_large_batch_splitting
            if room == 0 or (rows - start > room and whole):
                self._close()
                continue
            end = rows if whole else start + room
            if not self._open:
                self._opened_at = now
            self._open.append(Piece(task, start, end))
            self._open_rows += end - start
            if end == rows:
                return
            start = end

    def ready_at(self) -> float:
        """When a batch may be taken; infinity when nothing waits."""
        if self._closed or self._open_rows >= self._parameters.execution_size:
            return -math.inf
        return self._opened_at + self._parameters.batch_timeout_micros if self._open else math.inf

    def take(self, now: int) -> list[Piece[Task]]:
        """The next batch, which leaves the queue; empty when none may be taken yet."""
        if now < self.ready_at():
            return []
        if not self._closed:
            self._close()
        return self._closed.popleft()

    def _close(self) -> None:
        self._closed.append(self._open)
        self._open, self._open_rows = [], 0

    def _check_capacity(self, rows: int) -> None:
        """Raise StatusError when a task of so many rows finds no room."""
        size, most = self._parameters.execution_size, self._parameters.max_enqueued_batches
        batches = len(self._closed) + 1
        full = "The batch scheduling queue to which this task was submitted is full; "
        if self._parameters.enable_large_batch_splitting:
            capacity = (most - batches) * size + size - self._open_rows
            if rows > capacity:
                raise StatusError(
                    Code.UNAVAILABLE,
                    f"{full}task size is {rows} but scheduling capacity is only {capacity} "
                    f"(num_enqueued_batches={batches}, max_enqueued_batches={most}, "
                    f"open_batch_size={self._open_rows}, max_execution_batch_size={size})",
                )
        elif self._open_rows + rows > size and batches >= most:
            raise StatusError(
                Code.UNAVAILABLE, f"{full}currently {batches} batches enqueued and max_enqueued_batches is {most}"
            )


def merged(inputs: Sequence[Arrays], fill: int = 0) -> Arrays:
    """The rows of several requests one below the other, and `fill` times the last one's first row after them."""
    if len(inputs) == 1 and not fill:
        return inputs[0]
    padding = [{name: np.repeat(values[:1], fill, axis=0) for name, values in inputs[-1].items()}] if fill else []
    return {name: np.concatenate([each[name] for each in (*inputs, *padding)]) for name in inputs[0]}


def split(outputs: Arrays, sizes: Sequence[int], fill: int = 0) -> Iterator[Arrays]:
    """The outputs of each request, given the numbers of their rows.

    Raises StatusError when an output has not as many rows as went in.
    """
    ends = np.cumsum(sizes)
    for values in outputs.values():
        if values.ndim == 0:
            raise StatusError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if len(values) != ends[-1] + fill:
            raise StatusError(
                Code.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                "input tensors",
            )
    for end, size in zip(ends, sizes, strict=True):
        yield {name: values[end - size : end] for name, values in outputs.items()}


def computed(run: Callable[[Arrays], Arrays], requests: Sequence[Arrays], fill: int) -> list[Arrays | StatusError]:
    """What each of several requests is answered when they are computed as one.

    One that cannot be computed fails alone: where the whole fails, each is computed by itself.
    """
    sizes = [rows_of(each) for each in requests]
    try:
        return list(split(run(merged(requests, fill)), sizes, fill))
    except StatusError as error:
        if len(requests) == 1 and not fill:
            return [error]
    return [_alone(run, each) for each in requests]


def _alone(run: Callable[[Arrays], Arrays], inputs: Arrays) -> Arrays | StatusError:
    try:
        return run(inputs)
    except StatusError as error:
        return error
