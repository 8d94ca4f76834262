"""A range of an archive through every part: real Kafka, model server, scorer; the journal says what came out."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from audit.recorded import entries
from demo.watch import Watch
from plumbline.decision import Decision
from plumbline.errors import Unready
from streaming.broker.local import LocalBroker
from streaming.parts import start, step

ANSWER_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Streamed:
    """What was streamed, while its broker still runs: the environment of every verb, and how many were sent."""

    environ: Mapping[str, str]
    bootstrap: str
    transactions: int
    seconds: float


@contextmanager
def streamed(folder: Path, archive: Path, models: Path, since: str, until: str) -> Iterator[Streamed]:
    """An archive's transactions of the days since..until (until not included), sent and all answered.

    folder: an empty data folder; archive: what came before `since` is folded into the first snapshot; models: base path
    with the version that scores. Labels arrive between the transactions as they did in the archive (`--in-step`).
    """
    environ = {**os.environ, "PLUMBLINE_DATA_DIR": str(folder)}
    with ExitStack() as stack:
        broker = stack.enter_context(LocalBroker(folder))
        environ["PLUMBLINE_KAFKA_BOOTSTRAP"] = broker.bootstrap
        environ["PLUMBLINE_MESSAGE_MAX_AGE_DAYS"] = "36500"  # fixed days are played, whenever this runs
        step(environ, "topics", "--json")
        step(environ, "backfill", "--archive", str(archive), "--until", since, "--json")

        def part(verb: str, *arguments: str) -> Any:
            made = start(verb, environ, folder / "logs", [verb, *arguments])
            stack.callback(made.stop)
            return made

        serve = part("serve", "--model-base-path", str(models), "--port", "0", "--no-rest", "--json-ready")
        environ["PLUMBLINE_MODEL_SERVER"] = f"127.0.0.1:{serve.wait_for(state='serving')['port']}"
        score = part("score", "--json")
        score.wait_for(state="leading")
        watch = Watch(broker.bootstrap)
        stack.callback(watch.close)
        begun = time.monotonic()
        played = step(
            environ, "play", "--archive", str(archive), "--since", since, "--until", until, "--in-step", "--json"
        )
        sent = int(json.loads(played.splitlines()[-1])["transactions"])
        if not watch.wait_for(sent, ANSWER_SECONDS):
            raise Unready(f"{watch.seen.answered} of {sent} transactions were answered, and then nothing came")
        yield Streamed(environ, broker.bootstrap, sent, time.monotonic() - begun)


def decisions(folder: Path, archive: Path, models: Path, since: str, until: str) -> Iterator[Decision]:
    """The decisions on what was `streamed`, in journal order."""
    with streamed(folder, archive, models, since, until) as done:
        for chunk in entries(done.bootstrap, "", 0, None):
            yield from (entry for _, entry in chunk if isinstance(entry, Decision))
