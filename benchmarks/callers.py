"""Callers of the decision API who do not wait for one another: an open loop with a schedule drawn from a seed.

    python -m benchmarks.callers PORT KEY RATE SECONDS DEADLINE_MS FILE FIRST

FILE holds one transaction a line, taken from number FIRST on. Requests arrive as in a Poisson process, whatever became
of those before; each one's time runs from the moment at which it was due, so a server (or a client) that is late is
not excused. A line of figures comes out at the end.
"""

import asyncio
import gc
import json
import random
import resource
import sys
import time
from collections import Counter, deque
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

AHEAD_SECONDS: Final = 0.0005
ANSWER_SECONDS: Final = 15.0
CONNECTIONS_MAX: Final = 600


class Connection(asyncio.Protocol):
    """One kept-alive connection: a request out, an answer in."""

    def __init__(self, callers: "Callers") -> None:
        self.callers = callers
        self.due = 0.0
        self.buffer = b""
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self, request: bytes, due: float) -> None:
        self.due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self.buffer = b""
        self.callers.answered(self, int(head[9:12]), body)

    def connection_lost(self, error: Exception | None) -> None:
        self.callers.lost(self)


class Callers:
    """All callers, and what they were told."""

    def __init__(self, port: int, key: str, deadline_ms: int) -> None:
        self.port = port
        self.head = (
            f"POST /v1/decisions HTTP/1.1\r\nHost: bank\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nPlumbline-Deadline-Ms: {deadline_ms}\r\nContent-Length: "
        ).encode()
        self.idle: deque[Connection] = deque()
        self.open = 0
        self.under_way: set[Connection] = set()
        self.latencies: list[tuple[float, float]] = []
        self.told: Counter[str] = Counter()
        self.done = asyncio.Event()
        self.wanted = 0

    def answered(self, connection: Connection, status: int, body: bytes) -> None:
        now = time.perf_counter()
        self.under_way.discard(connection)
        self.idle.append(connection)
        self.latencies.append((connection.due, now - connection.due))
        told = "decided" if b'"decided":true' in body[:400] else "fallback" if status == 200 else str(status)
        self._count(told)

    def lost(self, connection: Connection) -> None:
        self.open -= 1
        if connection in self.under_way:
            self.under_way.discard(connection)
            self._count("lost")
        elif connection in self.idle:
            self.idle.remove(connection)

    def _count(self, told: str) -> None:
        self.told[told] += 1
        if self.told.total() >= self.wanted:
            self.done.set()

    async def ask(self, body: bytes, due: float) -> None:
        request = self.head + b"%d\r\n\r\n" % len(body) + body
        if not self.idle:
            if self.open >= CONNECTIONS_MAX:
                self._count("no_connection")
                return
            self.open += 1
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self.port)
        else:
            connection = self.idle.popleft()
        self.under_way.add(connection)
        connection.ask(request, due)

    async def run(self, bodies: list[bytes], dues: list[float]) -> None:
        """Ask each body at its time; returns when all are answered, or after a while."""
        self.wanted = len(bodies)
        opening = set()
        begun = time.perf_counter()
        for body, due in zip(bodies, dues, strict=True):
            if (wait := begun + due - time.perf_counter()) > AHEAD_SECONDS:
                await asyncio.sleep(wait)
            if self.idle:
                await self.ask(body, begun + due)  # at once: nothing is waited for
            else:
                task = asyncio.create_task(self.ask(body, begun + due))
                opening.add(task)
                task.add_done_callback(opening.discard)
        try:
            await asyncio.wait_for(self.done.wait(), ANSWER_SECONDS)
        except TimeoutError:
            self.told["unanswered"] += self.wanted - self.told.total()


def schedule(rate: float, count: int, seed: int) -> list[float]:
    """When each request is due, seconds after the start: a Poisson process.

    >>> len(schedule(100.0, 5, 1)), schedule(100.0, 5, 1) == sorted(schedule(100.0, 5, 1))
    (5, True)
    """
    draw = random.Random(seed)
    at, found = 0.0, []
    for _ in range(count):
        at += draw.expovariate(rate)
        found.append(at)
    return found


def figures(callers: Callers, rate: float, seconds: float) -> dict[str, Any]:
    """What one run showed, latencies in milliseconds from the time at which each request was due."""
    timed = sorted(callers.latencies)
    took = np.array([latency for _, latency in timed]) * 1000
    total = callers.told.total()
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "rate_per_second": rate,
        "requests": total,
        "decided": callers.told["decided"],
        "told": dict(callers.told),
        **{f"p{name}_ms": round(float(np.percentile(took, share)), 1)
           for name, share in (("50", 50), ("90", 90), ("99", 99), ("999", 99.9))},
        "last_quarter_p50_ms": round(float(np.median(took[-max(len(took) // 4, 1):])), 1),
        "client_cpu_seconds_per_second": round((spent.ru_utime + spent.ru_stime) / seconds, 3),
    }  # fmt: skip


def main() -> None:
    """Run the callers of one rate, and print figures."""
    port, key, rate, seconds, deadline_ms, file, first = sys.argv[1:]
    count = int(float(rate) * float(seconds))
    with Path(file).open("rb") as lines:
        bodies = [line.rstrip(b"\n") for line in islice(lines, int(first), int(first) + count)]
    callers = Callers(int(port), key, int(deadline_ms))
    gc.disable()
    asyncio.run(callers.run(bodies, schedule(float(rate), len(bodies), int(first))))
    print(json.dumps(figures(callers, float(rate), float(seconds))))


if __name__ == "__main__":
    main()
