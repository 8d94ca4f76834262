"""`plumbline retrain`: what is known by the cut-off becomes a candidate and comes into the shadow, or is refused.

Exit codes: 0 done, now or before; 1 refused or failed, where a person has to look; 2 usage; 75 stopped on the way, by
a signal or since a part was away: the same command goes on.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from plumbline.cli.retrain_stop import STOPPED

if TYPE_CHECKING:
    from plumbline.settings import Settings
    from retrain.manifest import Manifest

EXITS: Final = {"registered": 0, "shadowed": 0, "refused": 1, "failed": 1, "stopped": STOPPED, "running": STOPPED}
PRECISIONS: Final = ("float32", "bfloat16", "float16")


def retrain(
    cut_off: Annotated[
        str,
        typer.Option(help="Nothing later counts: a date, or a time with its zone. [default: the last UTC midnight]"),
    ] = "",
    archive: Annotated[
        Path | None, typer.Option(help="Archive of the past. [default: archive in the data folder, if it is there]")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Kept journal. [default: journal in the data folder, if it is there]")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="First keep what the broker has, as `plumbline keep`.")] = False,
    days: Annotated[int, typer.Option(min=1, help="Days to train on, at most.")] = 270,
    delay_days: Annotated[
        int, typer.Option(min=0, help="Days in which labels become known; then a row without one is genuine.")
    ] = 7,
    test_days: Annotated[int, typer.Option(min=1, help="Later days to be judged on, at most.")] = 14,
    epochs: Annotated[int, typer.Option(min=1, help="Most passes over the training rows.")] = 8,
    batch_rows: Annotated[int, typer.Option(min=1, help="Rows of one step of the fit.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    other_seeds: Annotated[
        int, typer.Option(min=0, max=16, help="Further fits, whose scores say how much chance moves the figures.")
    ] = 1,
    devices: Annotated[int | None, typer.Option(min=1, help="Replicas; all GPUs, or one CPU, when not given.")] = None,
    precision: Annotated[str, typer.Option(help="Of the fit: " + ", ".join(PRECISIONS) + ".")] = "float32",
    declaration: Annotated[
        Path | None,
        typer.Option(
            help="JSON file of a declaration. [default: the champion's; this release's own without a champion]"
        ),
    ] = None,
    empty_day: Annotated[
        list[str] | None,
        typer.Option(help="A day, such as 2026-12-25, on which nothing was paid; kept for later runs too. Repeatable."),
    ] = None,
    told_times: Annotated[
        bool,
        typer.Option("--told-times", help="Entries count by their own times: for a past that was played in later."),
    ] = False,
    shadow: Annotated[
        bool, typer.Option("--shadow/--no-shadow", help="Bring what the gate let through into the shadow.")
    ] = True,
    few: Annotated[bool, typer.Option("--few", help="Let the parity gate do with fewer than 1,000 rows.")] = False,
    wait_seconds: Annotated[
        float, typer.Option(min=0.1, help="How long a version may take to load, and a scorer to obey.")
    ] = 180.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make the next candidate of what is known by a cut-off; killed at any moment, the same command goes on."""
    from plumbline import settings
    from plumbline.cli.declaration import read_declaration
    from plumbline.cli.models_store import now_us
    from plumbline.cli.retrain_night import Options, run_night
    from plumbline.errors import InvalidSetting, Retryable
    from retrain.empty_days import parse_day
    from retrain.plan import Plan, last_midnight, moment

    given = settings.load()
    declared = None if declaration is None else read_declaration(declaration)
    if precision not in PRECISIONS:
        raise InvalidSetting("retrain", "--precision", precision, ", ".join(PRECISIONS))
    cut_off_us = moment(cut_off) if cut_off else last_midnight(now_us())
    if cut_off_us > now_us():
        raise InvalidSetting("retrain", "--cut-off", cut_off, "a moment that has passed")
    limits, costs = _limits_and_costs(given)
    plan = Plan(
        cut_off_us=cut_off_us, clock="told" if told_times else "journal",
        model_name=given.model_name, train_days=days, delay_days=delay_days, test_days=test_days, epochs=epochs,
        batch_rows=batch_rows, seed=seed, seeds=tuple(range(seed + 1, seed + 1 + other_seeds)), devices=devices,
        precision=precision, limits=limits, costs=costs, empty_days=tuple(parse_day(day) for day in empty_day or ()),
    )  # fmt: skip
    try:
        ended = run_night(given, plan, declared, Options(archive, journal, keep, shadow, few, wait_seconds))
    except Retryable as error:
        print(f"plumbline: {error}", file=sys.stderr)
        raise typer.Exit(STOPPED) from error
    code = EXITS[ended.manifest.verdict]
    if as_json:
        print(json.dumps(facts_of(ended.manifest, again=ended.again, code=code, waiting=ended.waiting)))
    else:
        _tell(ended.manifest, again=ended.again)
    if code:
        raise typer.Exit(code)


def facts_of(manifest: "Manifest", *, again: bool, code: int, waiting: int) -> dict[str, Any]:
    """A night as one JSON object; waiting: notices that nobody took yet."""
    facts = {each.name: each.facts for each in manifest.steps}
    return {
        "run": manifest.run, "verdict": manifest.verdict, "again": again, "exit": code, "version": manifest.version,
        "champion": manifest.champion, "cut_off": manifest.arguments["cut_off_us"], "attempts": manifest.attempts,
        "seconds": round(manifest.seconds, 3), "rows": facts.get("rows", {}).get("rows_train", 0),
        "reasons": manifest.error, "gate": facts.get("gate", {}).get("gate"), "notifications": waiting,
        "steps": [
            {"name": each.name, "state": each.state, "seconds": each.seconds, "rows": each.rows, "digest": each.digest}
            for each in manifest.steps
        ],
    }  # fmt: skip


def _limits_and_costs(given: "Settings") -> tuple[dict[str, Any], dict[str, Any]]:
    import msgspec

    from retrain.gate_limits import read_limits
    from training.costs import read_costs

    limits = read_limits(Path(given.gate_limits_file) if given.gate_limits_file else None)
    costs = read_costs(Path(given.costs_file) if given.costs_file else None)
    return msgspec.to_builtins(limits), msgspec.to_builtins(costs)


def _tell(manifest: "Manifest", *, again: bool) -> None:
    from retrain.notify import notice

    print(notice(manifest)["text"])
    if again:
        print("this night was done before: nothing was done now")
        return
    for each in manifest.steps:
        if each.state == "done":
            print(f"  {each.name:<9} {each.seconds:>8.1f} s {each.rows:>10,} rows  {each.digest[:16]}")
