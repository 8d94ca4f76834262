"""One process of the decision API: its parts put together, and gunicorn around them.

gunicorn forks one worker, and everything with threads is made in it. More processes share nothing with this one: each
reads the journal itself, so any of them may answer a repeated question.
"""

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http.server import HTTPServer
from typing import Any, Final

import grpc
import sqlalchemy as sa
from flask import Flask
from kafka import TopicPartition

from app.api.board import Board
from app.api.core import Decisions
from app.api.deadline import Deadlines
from app.api.following import Following
from app.api.gate import Gate
from app.api.grpc_edge import serve
from app.api.http import create_api
from app.api.keyring import Keyring
from app.api.lookup import Lookup
from app.api.rates import Rates
from app.api.sending import Sending
from app.server import Server, address
from observe.metrics import Metrics
from plumbline.decision import Outcome
from plumbline.names import Topic
from plumbline.settings import Settings
from store.engine import open_engine

SPARE_THREADS: Final = 16
"""Threads beyond those that may wait for decisions, so that /healthz and refusals are answered while all of them do."""
GRACEFUL_SECONDS: Final = 10


@dataclass(slots=True)
class Parts:
    """Everything that has a thread, a connection or a port."""

    following: Following
    sending: Sending
    lookup: Lookup
    gate: Gate
    decisions: Decisions
    deadlines: Deadlines
    metrics: Metrics

    def start(self) -> None:
        """Begin to read the keys and the journal, and to look for the broker. Raises StoreUnavailable."""
        self.gate.keyring.start()
        self.sending.start()
        self.following.start()

    def close(self) -> None:
        """End all of it; transactions handed over are given a moment to be acknowledged."""
        self.sending.close()
        self.following.close()
        self.lookup.close()
        self.gate.keyring.close()

    def unready(self) -> str:
        """What is missing before decisions can be made; empty when nothing is."""
        if not self.sending.ready:
            return "producer"
        return "" if self.following.caught_up.is_set() else "journal"

    def grpc(self, address: str, threads: int) -> tuple[grpc.Server, int]:
        """The gRPC service over these parts, and its port. Raises Unready."""
        return serve(self.decisions, self.gate, self.deadlines, self.metrics, self.unready, address, threads)

    def app(self, document: bytes) -> Flask:
        """The HTTP application over these parts."""
        return create_api(self.decisions, self.gate, self.deadlines, self.metrics, document, self.unready)


@dataclass(slots=True)
class Running:
    """The parts, and the servers beside gunicorn's."""

    parts: Parts
    grpc_server: grpc.Server
    grpc_port: int
    metrics_server: HTTPServer | None

    def close(self) -> None:
        """End them: calls under way are finished first."""
        self.grpc_server.stop(GRACEFUL_SECONDS).wait()
        self.parts.close()
        if self.metrics_server is not None:
            self.metrics_server.shutdown()
            self.metrics_server.server_close()


def assembled(settings: Settings, engine: sa.Engine, now_us: Callable[[], int]) -> Parts:
    """The parts, not started; now_us: our clock, microseconds since 1970 UTC."""
    metrics = Metrics()
    board = Board(settings.api_remembered_decisions)
    prefix = settings.topic_prefix
    journal = TopicPartition(prefix + Topic.DECISIONS.value, 0)
    transactions = prefix + Topic.TRANSACTIONS.value
    sending = Sending(settings.kafka_bootstrap, transactions, settings.api_deadline_max_ms)
    lookup = Lookup(board, engine, settings.kafka_bootstrap, journal)
    return Parts(
        following=Following(
            board,
            settings.kafka_bootstrap,
            transactions,
            journal,
            settings.api_remembered_decisions,
            metrics.gauge("plumbline_api_sequence").set,
        ),
        sending=sending,
        lookup=lookup,
        gate=Gate(Keyring(engine, now_us), Rates(settings.api_requests_per_second)),
        decisions=Decisions(
            board,
            sending,
            lookup,
            metrics,
            now_us,
            fallback=Outcome(settings.api_fallback),
            callers_max=settings.api_callers_max,
            max_age_days=settings.message_max_age_days,
        ),
        deadlines=Deadlines(min(settings.api_deadline_ms, settings.api_deadline_max_ms), settings.api_deadline_max_ms),
        metrics=metrics,
    )


def run(
    settings: Settings,
    listener: socket.socket,
    grpc_port: int,
    document: bytes,
    now_us: Callable[[], int],
    announce: Callable[[dict[str, Any]], None],
) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is told where, once requests are answered. Leaves by SystemExit."""
    serving: list[Running] = []
    url = address(listener)
    host = listener.getsockname()[0]
    threads = settings.api_callers_max + SPARE_THREADS

    def load() -> Flask:
        parts = assembled(settings, open_engine(settings), now_us)
        parts.start()
        metrics_server = parts.metrics.serve(settings.metrics_host, settings.metrics_port)
        serving.append(
            Running(
                parts,
                *parts.grpc(f"[{host}]:{grpc_port}" if ":" in host else f"{host}:{grpc_port}", threads),
                metrics_server,
            )
        )
        return parts.app(document)

    def listening(_worker: Any) -> None:
        announce({"state": "listening", "url": url, "grpc_port": serving[-1].grpc_port})

    def close(_server: Any, _worker: Any) -> None:
        for each in serving:
            each.close()

    options = {
        "bind": f"fd://{listener.fileno()}",
        "workers": 1,
        "worker_class": "gthread",
        "threads": threads,
        "worker_connections": 2 * threads,
        "graceful_timeout": GRACEFUL_SECONDS,
        "timeout": 60,
        "keepalive": 75,
        "limit_request_line": 1024,
        "limit_request_fields": 50,
        "accesslog": None,
        "loglevel": "warning",
        "control_socket_disable": True,
        "post_worker_init": listening,
        "worker_exit": close,
    }
    Server(load, options).run()


def announced(facts: dict[str, Any], as_json: bool) -> str:
    """What a start prints."""
    return json.dumps(facts) if as_json else f"decision API at {facts['url']}, gRPC on port {facts['grpc_port']}"
