"""What a bank's platforms send on a bad day, drawn from a seed, and a sender that goes on until the broker has it.

Payments of a few hundred accounts, some late by days, some at equal times; ids sent again with the same and with
another body; what is no transaction at all; labels of every verdict, about payments of long ago, of nobody, and of
payments that come later; new policies. A message whose fate is unknown is sent again, as a platform does.
"""

import json
import random
import threading
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import structlog
from kafka.errors import KafkaError

from plumbline.errors import BrokerUnavailable
from plumbline.names import Topic
from streaming.kafka import close_producer, idempotent_producer

log = structlog.get_logger()

ACCOUNTS: Final = 400
MERCHANTS: Final = 60
DEVICES: Final = 150
BEGIN_US: Final = 1_700_000_000_000_000
STEP_US: Final = 250_000
DAY_US: Final = 86_400_000_000
REACH: Final = 5_000
"""How many payments back a repetition or a label may reach."""

CHUNK_SECONDS: Final = 0.1
ANSWER_SECONDS: Final = 90.0
RETRY_SECONDS: Final = 0.5

_KINDS: Final = ("payment", "again", "changed", "malformed", "label", "policy")
_SHARES: Final = (9000, 300, 150, 100, 440, 10)


class Message(NamedTuple):
    """One message to send; `is_payment` counts it among the new transactions."""

    topic: Topic
    key: bytes
    value: bytes
    is_payment: bool = False


def messages(seed: int) -> Iterator[Message]:
    """All messages of a seed, without end."""
    draw = random.Random(seed)
    paid = 0
    while True:
        kind = draw.choices(_KINDS, _SHARES)[0]
        if kind == "payment" or paid == 0:
            body = _payment(seed, paid)
            paid += 1
            yield Message(Topic.TRANSACTIONS, body["account_id"].encode(), _raw(body), True)
        elif kind in {"again", "changed"}:
            # Drawn anew from its own number, an old payment is what it was.
            body = _payment(seed, draw.randrange(max(0, paid - REACH), paid))
            if kind == "changed":
                body["amount_minor"] += 1
            yield Message(Topic.TRANSACTIONS, body["account_id"].encode(), _raw(body))
        elif kind == "malformed":
            yield Message(Topic.TRANSACTIONS, b"a0", _malformed(seed, paid, draw))
        elif kind == "label":
            yield _label(seed, paid, draw)
        else:
            yield _policy(seed, paid, draw)


def _payment(seed: int, number: int) -> dict[str, Any]:
    draw = random.Random(f"{seed} {number}")
    at = BEGIN_US + number * STEP_US
    lateness = draw.random()
    if lateness < 0.05:
        at -= at % (8 * STEP_US)  # equal to others
    elif lateness < 0.08:
        at -= draw.randrange(3 * DAY_US)
    account = min(int(draw.expovariate(4 / ACCOUNTS)), ACCOUNTS - 1)
    body: dict[str, Any] = {
        "transaction_id": f"t{seed}-{number}", "occurred_at": at, "account_id": f"a{account}",
        "merchant_id": f"m{draw.randrange(MERCHANTS)}", "device_id": draw.choice(["", f"d{draw.randrange(DEVICES)}"]),
        "amount_minor": int(draw.lognormvariate(8, 1.5)), "currency": "EUR",
        "channel": draw.choice(["ecom", "pos"]), "mcc": draw.choice(["5411", "5732", "4829"]), "country": "DE",
    }  # fmt: skip
    if draw.random() < 0.7:
        body |= {"latitude_e6": draw.randrange(47_000_000, 55_000_000),
                 "longitude_e6": draw.randrange(6_000_000, 15_000_000)}  # fmt: skip
    return body


def _malformed(seed: int, paid: int, draw: random.Random) -> bytes:
    body = _payment(seed, paid) | {"transaction_id": f"bad{seed}-{paid}"}
    return draw.choice(
        [b"", b"\xff\xfe", b"{", b"[" * 3000, _raw(body | {"amount_minor": -1}), _raw(body | {"mcc": "five"}),
         _raw(body | {"more": "x" * 5000}), _raw({"transaction_id": "alone"}), _raw(body | {"occurred_at": 2**53 - 1})]
    )  # fmt: skip


def _label(seed: int, paid: int, draw: random.Random) -> Message:
    number = draw.choices(
        [draw.randrange(max(0, paid - REACH), paid), paid + draw.randrange(3), 10**9 + paid], [85, 10, 5]
    )[0]
    identity = f"t{seed}-{number}"
    body = {
        "label_id": f"l{seed}-{paid}", "transaction_id": identity,
        "verdict": draw.choices(["fraud", "genuine", "unsure"], [6, 3, 1])[0],
        "source": draw.choice(["analyst", "chargeback"]), "known_at": BEGIN_US + paid * STEP_US,
    }  # fmt: skip
    raw = _raw(body) if draw.random() < 0.97 else b"no label"
    return Message(Topic.LABELS, identity.encode(), raw)


def _policy(seed: int, paid: int, draw: random.Random) -> Message:
    body = {"type": "policy", "version": f"p{seed}-{paid}", "review_at": 0.95, "decline_at": 0.99,
            "declined_accounts": [f"a{draw.randrange(ACCOUNTS)}"]}  # fmt: skip
    return Message(Topic.CONTROL, b"policy", _raw(body) if draw.random() < 0.9 else b"no policy")


def _raw(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


class Traffic(threading.Thread):
    """Sends a seed's messages, evenly, from a thread of its own; knows what the broker acknowledged.

    rate: messages a second; least: new payments that must have been sent before it ends. `hurry` lets it send the
    rest as fast as it can, and end.
    """

    def __init__(self, bootstrap: str, seed: int, rate: float, least: int) -> None:
        super().__init__(name="traffic", daemon=True)
        self.acknowledged: list[tuple[str, int, int, bytes]] = []
        self.paid = 0
        self.hurry = threading.Event()
        self.failed: BaseException | None = None
        self.sent_again = 0
        self._address = bootstrap
        self._stream = messages(seed)
        self._rate = rate
        self._least = least

    def run(self) -> None:
        """Send until `hurry` is set and the least is reached."""
        try:
            self._send_all()
        except BaseException as error:  # noqa: BLE001 - whoever joins the thread raises it
            self.failed = error

    def _send_all(self) -> None:
        producer = None
        while not (self.hurry.is_set() and self.paid >= self._least):
            begun = time.monotonic()
            size = 500 if self.hurry.is_set() else max(1, round(self._rate * CHUNK_SECONDS))
            waiting = [next(self._stream) for _ in range(size)]
            while waiting:
                try:
                    producer = producer or idempotent_producer(self._address)
                    waiting = self._send(producer, waiting)
                except (KafkaError, BrokerUnavailable) as error:
                    log.info("the sender waits", error=str(error))
                if waiting:
                    self.sent_again += len(waiting)
                    if producer is not None:
                        close_producer(producer, 1.0)
                        producer = None
                    time.sleep(RETRY_SECONDS)
            if not self.hurry.is_set():
                time.sleep(max(0.0, begun + CHUNK_SECONDS - time.monotonic()))
        if producer is not None:
            close_producer(producer, 10.0)

    def _send(self, producer: Any, waiting: list[Message]) -> list[Message]:
        """Send messages and wait for the broker's word; returns those whose fate is unknown."""
        sent = [producer.send(each.topic.value, each.value, key=each.key) for each in waiting]
        unknown = []
        for each, future in zip(waiting, sent, strict=True):
            try:
                taken = future.get(timeout=ANSWER_SECONDS)
            except KafkaError:
                unknown.append(each)
                continue
            self.acknowledged.append((each.topic.value, taken.partition, taken.offset, each.value))
            self.paid += each.is_payment
        return unknown
