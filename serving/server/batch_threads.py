"""The threads that compute batches: what `serving.server.batching` decides, with a clock and a lock around it."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from serving.server.batching import Parameters, Piece, Queue, can_be_merged, computed, rows_of
from serving.server.caller import WAITS, Waits
from serving.server.model import Arrays, Model, Signature
from serving.server.monitoring import Monitoring
from serving.server.status import Code, StatusError

Run = Callable[[Arrays], Arrays]

GONE: Final = "Run() timeout exceeded while waiting in batching queue"


def now_micros() -> int:
    """A clock that never goes back, in microseconds."""
    return time.monotonic_ns() // 1000


class _Task:
    """One request that waits for its answer, which may come in parts."""

    def __init__(self, inputs: Arrays, rows: int, now: int, waits: Waits) -> None:
        self.inputs = inputs
        self.added_at = now
        self.waits = waits
        self._missing = rows
        self._parts: dict[int, Arrays] = {}
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._done = threading.Event()

    def rows(self, start: int, end: int) -> Arrays:
        return {name: values[start:end] for name, values in self.inputs.items()}

    @property
    def failed(self) -> bool:
        """Whether no part of it needs to be computed any more."""
        return self._error is not None

    def give(self, start: int, end: int, answer: Arrays | BaseException) -> None:
        with self._lock:
            if isinstance(answer, BaseException):
                self._error = self._error or answer
            else:
                self._parts[start] = answer
            self._missing -= end - start
            if self._missing == 0:
                self._done.set()

    def answer(self) -> Arrays:
        self._done.wait()
        if self._error is not None:
            raise self._error
        parts = [self._parts[start] for start in sorted(self._parts)]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class _Lane:
    """Tasks that can be computed as one: of one signature, with rows of one shape."""

    def __init__(self, queue: Queue[_Task], run: Run, leave: Callable[[], Any]) -> None:
        self.queue = queue
        self.run = run
        self.leave = leave


class Batching:
    """Threads that all signatures of a server share; `merging` puts a signature's calls through them."""

    def __init__(self, parameters: Parameters, monitoring: Monitoring, clock: Callable[[], int] = now_micros) -> None:
        self._parameters = parameters
        self._monitoring = monitoring
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: deque[_Lane] = deque()  # lanes in which tasks wait, the next one to be served first
        self._closed = False
        for number in range(parameters.num_batch_threads):
            name = f"{parameters.thread_pool_name}_{number}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def merging(self, signature: Signature) -> Signature:
        """The signature, whose calls are now merged with others that come at the same time, where that can be."""
        if not can_be_merged(signature):
            return signature
        lanes: dict[tuple[tuple[int, ...], ...], _Lane] = {}
        names = sorted(signature.inputs)

        def run(inputs: Arrays) -> Arrays:
            rows = rows_of(inputs)
            self._monitoring.input_batch_size.add(rows)
            if rows == 0:
                return signature.run(inputs)
            shapes = tuple(inputs[name].shape[1:] for name in names)
            with self._changed:
                if self._closed:
                    raise StatusError(Code.UNAVAILABLE, "The server is stopping.")
                now = self._clock()
                task = _Task(inputs, rows, now, WAITS.get())
                lane = lanes.get(shapes)
                if lane is None:
                    lane = _Lane(Queue(self._parameters), signature.run, lambda: lanes.pop(shapes))
                lane.queue.add(task, rows, now)
                if shapes not in lanes:
                    lanes[shapes] = lane
                    self._waiting.append(lane)
                self._changed.notify()
            return task.answer()

        return replace(signature, run=run)

    def merged(self, model: Model) -> Model:
        """A version, the calls of whose signatures are merged."""
        return replace(model, signatures={name: self.merging(each) for name, each in model.signatures.items()})

    def waiting(self) -> int:
        """How many calls wait to be computed."""
        with self._changed:
            return sum(len(lane.queue) for lane in self._waiting)

    def close(self) -> None:
        """Take no more calls; the threads end when those that wait are answered."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                taken = self._next()
            if taken is None:
                return
            self._compute(*taken)
            del taken  # or a version that was let go would stay in memory until there is more to do

    def _next(self) -> tuple[_Lane, list[Piece[_Task]]] | None:
        """The next batch that may be computed, waited for; None when there will be no more."""
        while True:
            now = self._clock()
            if (taken := self._taken(now)) is not None:
                if self._waiting:
                    self._changed.notify()  # another thread may find work in what is left
                return taken
            if self._closed and not self._waiting:
                return None
            soonest = min((lane.queue.ready_at() for lane in self._waiting), default=None)
            self._changed.wait(None if soonest is None else max(soonest - now, 0) / 1e6)

    def _taken(self, now: int) -> tuple[_Lane, list[Piece[_Task]]] | None:
        """The next batch that may be computed now; every lane has its turn."""
        for _ in range(len(self._waiting)):
            lane = self._waiting.popleft()
            batch = lane.queue.take(now)
            if lane.queue:
                self._waiting.append(lane)
            else:
                lane.leave()
            if batch:
                return lane, batch
        return None

    def _gone(self, piece: Piece[_Task]) -> bool:
        """Whether nobody waits for a piece any more; it is answered then, so that its call ends."""
        if piece.task.waits() and not piece.task.failed:
            return False
        piece.task.give(piece.start, piece.end, StatusError(Code.DEADLINE_EXCEEDED, GONE))
        return True

    def _compute(self, lane: _Lane, batch: list[Piece[_Task]]) -> None:
        now, seen = self._clock(), self._monitoring
        for piece in batch:
            seen.queuing_latency.add(now - piece.task.added_at, self._parameters.thread_pool_name)
        batch = [piece for piece in batch if not self._gone(piece)]
        if not batch:
            return
        rows = sum(piece.rows for piece in batch)
        size = self._parameters.filled(rows)
        seen.processed_batch_size.add(size)
        seen.padding_size.add(size - rows, str(size))

        def run(inputs: Arrays) -> Arrays:
            seen.wrapped_run_count.add()
            return lane.run(inputs)

        answers: list[Any]
        try:
            answers = list(computed(run, [piece.task.rows(piece.start, piece.end) for piece in batch], size - rows))
        except Exception as error:  # noqa: BLE001 # whoever waits must hear of it; the edge tells the caller
            answers = [error] * len(batch)
        for piece, answer in zip(batch, answers, strict=True):
            piece.task.give(piece.start, piece.end, answer)
