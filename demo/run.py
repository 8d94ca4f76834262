"""The demo: every part of Plumbline on this machine, on a simulated bank, until time is up or Ctrl-C."""

import datetime
import json
import os
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Final

from demo.canary import PER_MILLE, VERSIONS_KEPT, Canary, planted_version, trained_version
from demo.figures import audited, champion_of, standing
from demo.first_days import (
    NowUs,
    compare_with_training,
    give_verdicts,
    play_first_days,
    release_first_model,
    wait_for_ledger,
)
from demo.prepare import (
    BANK_FILE,
    EPOCH,
    FIRST_DAYS,
    LogIn,
    Plan,
    Tell,
    begin_journal,
    keep,
    log_ins,
    plan_of,
    prepare,
    secret_files,
)
from demo.resume import resume_us
from demo.watch import Watch
from plumbline.decision import Outcome
from plumbline.errors import Unready
from plumbline.settings import load
from store.engine import open_engine
from streaming.broker.local import LocalBroker
from streaming.parts import Part, start, step

ANSWER_SECONDS: Final = 60.0
"""How long the journal may stand still while transactions wait for their answer."""

SETTINGS: Final = {"PLUMBLINE_DRIFT_PSI_ALARM": "0.5"}
"""Other defaults than a bank's: with some hundred merchants, what is known of a few of them moves a whole feature."""

BESIDE: Final = (("drift", 75.0, 3600.0),)
"""Verbs that look at the journal while it grows: seconds until the first time, and from one time to the next."""

AUDITOR_AFTER_SECONDS: Final = 10.0
"""The watching process loads TensorFlow; it begins when everything else runs, so that the console is there sooner."""

WATCH_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Asked:
    """folder: where everything is kept; model_name; seconds: how long to play (None: until stopped); rate: messages a
    second; http_port: of the console (0 takes a free one); canary: the fault to plant in one, `healthy` for none, empty
    for no canary."""

    folder: Path
    model_name: str
    seconds: float | None
    rate: float
    http_port: int
    canary: str = ""


def run(asked: Asked, now_us: NowUs, stop: Event, tell: Tell, show: Tell) -> dict[str, Any] | None:
    """Run the demo; returns its figures once its time is up, None when it was to run until stopped.

    now_us: our clock, microseconds since 1970 UTC; tell: given a sentence as each step begins; show: given the state of
    the stream twice a second. Raises Unready when something is missing here, or a part fails, or it was stopped before
    its time was up.
    """

    def tell_unless_stopped(sentence: str) -> None:
        if stop.is_set():
            raise _Stopped
        tell(sentence)

    try:
        return _run(asked, now_us, stop, tell_unless_stopped, show)
    except _Stopped:
        if asked.seconds is None:
            return None
        raise Unready("the demo was stopped before its time was up") from None


class _Stopped(Exception):
    """Somebody asked the demo to end."""


def _run(asked: Asked, now_us: NowUs, stop: Event, tell: Tell, show: Tell) -> dict[str, Any] | None:
    folder = asked.folder.absolute()
    plan = plan_of(folder, EPOCH + datetime.timedelta(microseconds=now_us()))
    environ = {
        **SETTINGS, **os.environ, "PLUMBLINE_DATA_DIR": str(folder), "PLUMBLINE_HTTPS_ONLY": "false",
        **secret_files(folder),
    }  # fmt: skip
    models = folder / "models" / asked.model_name
    step(environ, "migrate", "--json")
    engine = open_engine(load(environ))
    people = log_ins(folder, environ)
    prepare(folder, environ, plan, models, tell)
    canary = None
    if asked.canary:
        tell(f"Making a canary: {asked.canary}")
        name = f"canary-{asked.canary}-{secrets.token_hex(4)}"
        canary = Canary(folder, name, planted_version(environ, models, asked.canary), asked.canary)
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        tell("Starting Kafka")
        broker = stack.enter_context(LocalBroker(folder))
        environ["PLUMBLINE_KAFKA_BOOTSTRAP"] = broker.bootstrap
        step(environ, "topics", "--json")
        begin_journal(folder, environ, plan, tell)
        logs = folder / "logs"

        def part(name: str, *arguments: str) -> Part:
            made = start(name, environ, logs, arguments)
            stack.callback(made.stop)
            return made

        tell("Starting the model server, the scorer, the ledger and the console")
        serve = part(
            "serve", "serve", "--model-base-path", str(models), "--port", "0", "--no-rest", "--json-ready",
            "--keep-versions", str(VERSIONS_KEPT),
        )  # fmt: skip
        web = part("web", "web", "--port", str(asked.http_port), "--json")
        ledger = part("ledger", "ledger")
        guard = part("guard", "guard", "--json")
        serving = serve.wait_for(state="serving")
        environ["PLUMBLINE_MODEL_SERVER"] = f"127.0.0.1:{serving['port']}"
        score = part("score", "score", "--json")
        score.wait_for(state="leading")
        champion = champion_of(engine)
        released = champion is not None
        if champion is None:
            champion = trained_version(models)
            # A version with a planted fault may be newer than the trained one, and must not decide by being the newest.
            step(environ, "assign", "--decides", str(champion), "--json")
        resume = resume_us(broker.bootstrap, plan)
        if resume < plan.first_days_end_us:
            tell(f"Playing the first {FIRST_DAYS} days as fast as they are decided")
            resume = play_first_days(environ, folder, plan, resume)
        keep(folder, Plan(plan.live, resume))
        wait_for_ledger(engine, broker.bootstrap, stop)
        if not released:
            tell("Making the first model the champion, by two log-ins")
            release_first_model(engine, environ, champion)
        give_verdicts(engine, folder, plan, now_us)
        compare_with_training(engine, environ, models / str(champion))
        _tell_address(web.wait_for(url=...)["url"], people, folder, tell)
        watch = Watch(broker.bootstrap)
        stack.callback(watch.close)
        _tell_pace(resume, now_us(), asked.rate, tell)
        bank = ["--bank", str(folder / BANK_FILE), "--from-sequence", str(resume), "--rate", str(asked.rate)]
        play = part("play", "play", *bank, "--json")
        if canary is not None:
            tell(f"Version {canary.version} decides for half of the accounts; the guard judges it")
            arm = f"{canary.version}={PER_MILLE}"
            step(environ, "assign", "--decides", str(champion), "--arm", arm, "--name", canary.assignment, "--json")
        running = [serve, web, ledger, score, guard, play]
        first_audit = asked.seconds is None and not audited(engine)
        _watch_until(asked, watch, running, part, stop, tell, show, canary, first_audit)
        play.stop()
        played = _played(play)
        keep(folder, Plan(plan.live, played.get("next_sequence") or resume))
        if asked.seconds is None:
            return None
        if stop.is_set():
            raise _Stopped
        summary = _summary(environ, watch, played, tell)
        wait_for_ledger(engine, broker.bootstrap, stop)
        summary |= standing(load(environ), engine)
        return summary | ({} if canary is None else {"canary": canary.facts()})


def _tell_pace(resume: int, now: int, rate: float, tell: Tell) -> None:
    """Say whether the stream lies in the past, and how long it will take to reach now, about."""
    behind = datetime.timedelta(microseconds=max(0, now - resume))
    if behind > datetime.timedelta(hours=1):
        tell(
            f"The stream is {behind / datetime.timedelta(days=1):.1f} days behind the clock: it sends {rate:g} "
            "messages a second until it has caught up, and then each payment at its own time"
        )


def _watch_until(
    asked: Asked,
    watch: Watch,
    parts: list[Part],
    part: Callable[..., Part],
    stop: Event,
    tell: Tell,
    show: Tell,
    canary: Canary | None,
    first_audit: bool,
) -> None:
    """Show the stream until time is up or somebody stops it; other verbs run beside it now and then.

    Time counts from the first decision on, or after a minute without one: until then the player is being loaded.
    Without an end in sight every decision is audited meanwhile; with one, all are audited at the end.
    part: starts a process that ends with the demo. Raises Unready as soon as a part has ended by itself.
    """
    waited, elapsed, auditing = 0.0, 0.0, asked.seconds is not None
    due = {verb: first for verb, first, _ in BESIDE}
    running: dict[str, Part] = {}
    if first_audit:
        part("audit", "audit", "--json")
    while asked.seconds is None or elapsed < asked.seconds:
        if stop.wait(WATCH_SECONDS):
            return
        waited += WATCH_SECONDS
        if watch.seen.answered or waited > ANSWER_SECONDS:
            elapsed += WATCH_SECONDS
        for each in parts:
            if each.child.ended.is_set():
                raise Unready(each.obituary())
        for sentence in canary.news() if canary is not None else ():
            tell(sentence)
        show(_state(watch))
        for verb, _, every in BESIDE if asked.seconds is None else ():
            if elapsed >= due[verb] and (verb not in running or running[verb].child.ended.is_set()):
                due[verb] = elapsed + every
                running[verb] = part(verb, verb, "--json")
        if elapsed >= AUDITOR_AFTER_SECONDS and not auditing:
            parts.append(part("watch", "watch", "--sample", "1/1", "--json"))
            auditing = True


def _played(play: Part) -> dict[str, Any]:
    """What the player says it sent."""
    return next((each for each in reversed(play.said()) if "transactions" in each), {"transactions": 0})


def _summary(environ: dict[str, str], watch: Watch, played: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Wait for the last answers, audit all of the journal, and sum up."""
    sent = int(played["transactions"])
    if not watch.wait_for(sent, ANSWER_SECONDS):
        raise Unready(
            f"{watch.seen.answered} of {sent} transactions were answered, and then the journal stood still for "
            f"{ANSWER_SECONDS:.0f} s: see score.log in the logs folder"
        )
    tell("Auditing every decision in the journal")
    audited = json.loads(step(environ, "audit", "--json").splitlines()[-1])
    seen = watch.seen
    return {
        "transactions": sent,
        "decisions": seen.decisions,
        **{outcome.value: seen.outcomes[outcome] for outcome in Outcome},
        "p50_ms": seen.percentile_ms(50),
        "p99_ms": seen.percentile_ms(99),
        "audit_compared": audited["compared"],
        "audit_different": audited["different"],
    }


def _tell_address(url: str, people: list[LogIn], folder: Path, tell: Tell) -> None:
    tell(f"The console is at {url}")
    for each in people:
        tell(f"  log in as {each.email} with {each.password} ({each.role})")
    tell(f"  logs and data are in {folder}; Ctrl-C stops everything")


def _state(watch: Watch) -> str:
    seen, p99 = watch.seen, watch.seen.percentile_ms(99)
    counts = ", ".join(f"{outcome.value} {count:,}" for outcome, count in seen.outcomes.items())
    return f"{seen.decisions:,} decisions ({counts})" + ("" if p99 is None else f", p99 {p99:.0f} ms")
