"""`plumbline models reconcile`: makes the registry say what the journal says is active."""

import json
import sys

from plumbline.cli.models_site import Wait
from plumbline.cli.models_store import AsJson, now_us, opened


def reconcile(wait_seconds: Wait = 10.0, as_json: AsJson = False) -> None:
    """Record what came into effect and was not recorded, as after a killed command; exit 1 where they still differ."""
    import msgspec
    import typer

    from release.reconcile import Stream
    from release.reconcile import reconcile as compare
    from release.state import differs_from, registry_of
    from store.engine import transaction
    from store.releases import owning

    with opened() as (engine, settings):
        stream = Stream(engine, settings.kafka_bootstrap, settings.topic_prefix, now_us)
        with owning(engine, "models reconcile", urgent=False, wait_seconds=wait_seconds) as owner:
            found = compare(stream, owner, wait_seconds)
        with transaction(engine) as session:
            difference = differs_from(registry_of(session), found.active)
    ended = {
        "recorded": found.recorded, "refused": found.refused, "abandoned": found.abandoned, "waiting": found.waiting,
    }  # fmt: skip
    if as_json:
        assignment = None if found.active is None else msgspec.to_builtins(found.active)
        print(json.dumps({"active": assignment, "sequence": found.sequence, **ended, "difference": difference}))
    else:
        active = "no assignment" if found.active is None else f"assignment {found.active.version}"
        print(f"{active} is active at journal entry {found.sequence}")
        for name, assignments in ended.items():
            for each in assignments:
                print(f"{name}: {each}")
    if difference:
        print(f"plumbline: {difference}", file=sys.stderr)
        raise typer.Exit(1)
