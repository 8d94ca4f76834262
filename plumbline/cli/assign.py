"""`plumbline assign`: says which model versions decide from the next decision on, and which score beside them."""

import json
import sys
import time
from typing import Annotated

import typer

WAIT_SECONDS = 60.0


def assign(
    decides: Annotated[int, typer.Option(min=1, help="Number of the version that decides.")],
    shadow: Annotated[
        list[int] | None, typer.Option(min=1, help="Number of a version that is journaled beside it; may be repeated.")
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help="VERSION=PER_MILLE: a version that decides for so many of every thousand accounts, such as 2=50 or "
            "2=0.1%; may be repeated."
        ),
    ] = None,
    ready: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Number of a version that may come back at once: its history goes on; repeatable."),
    ] = None,
    kind: Annotated[str, typer.Option(help="What the arms are of: canary or experiment.")] = "canary",
    salt: Annotated[str, typer.Option(help="Another one deals the accounts anew.")] = "",
    why: Annotated[str, typer.Option(help="Why, for the readers of the journal.")] = "",
    replaces: Annotated[
        str, typer.Option(help="Name of the assignment that must be in force, or this one is refused; empty: any.")
    ] = "",
    name: Annotated[str, typer.Option(help="What to call the assignment; made from the clock when not given.")] = "",
    own_thresholds: Annotated[
        bool,
        typer.Option(
            help="First activate the thresholds beside the deciding versions' files, and wait for the scorer to do so.",
        ),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Bring an assignment of model versions into force with the scorer's next batch.

    A version of another feature declaration needs `plumbline prepare` first. The scorer refuses what it cannot do: the
    message is then in the dead-letter topic with the reason, and nothing changes.
    """
    import msgspec

    from plumbline.assignment import NO_ASSIGNMENT, Assignment, parse
    from plumbline.cli.models_store import owning_if_stored
    from plumbline.cli.shares import arm as parse_arm
    from plumbline.errors import InvalidControl, InvalidSetting
    from plumbline.settings import load
    from streaming.control import publish

    settings = load()
    if name == NO_ASSIGNMENT:
        raise InvalidSetting("assign", "--name", name, "any other name: this one stands for no assignment at all")
    arms = [{"version": version, "per_mille": share} for version, share in map(parse_arm, arm or [])]
    named = name or f"assigned-{time.time_ns() // 1000}"
    fields = {
        "type": "assignment", "version": named, "decides": decides, "shadows": shadow or [],
        "arms": arms, "kind": kind, "salt": salt, "why": why, "replaces": replaces,
    } | ({"ready": ready} if ready else {})  # fmt: skip
    try:
        assignment: Assignment = parse(msgspec.json.encode(fields))
    except InvalidControl as error:
        raise InvalidSetting("assign", error.field, error.value, error.allowed) from error
    where, brought = (settings.kafka_bootstrap, settings.topic_prefix), {}
    with owning_if_stored(settings, f"assign {named}", WAIT_SECONDS):
        if own_thresholds:
            from release.thresholds import bring

            deciding = [assignment.decides, *(each.version for each in assignment.arms)]
            brought = dict(bring(*where, settings.models_path, deciding, deciding, WAIT_SECONDS))
        offset = publish(*where, assignment)
    for version in brought.get("without", ()):
        print(
            f"plumbline: version {version} has no thresholds of its own in {settings.models_path}: those of the "
            "active policy apply to it (`plumbline policy` shows them)",
            file=sys.stderr,
        )
    facts = msgspec.to_builtins(assignment) | {"offset": offset}
    print(json.dumps(facts) if as_json else f"assignment {named} is on its way to the scorer (offset {offset})")
