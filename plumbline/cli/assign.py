"""`plumbline assign`: says which model version decides from the next decision on, and which score beside it."""

import json
import time
from typing import Annotated

import typer


def assign(
    decides: Annotated[int, typer.Option(min=1, help="Number of the version that decides.")],
    shadow: Annotated[
        list[int] | None, typer.Option(min=1, help="Number of a version that is journaled beside it; may be repeated.")
    ] = None,
    name: Annotated[str, typer.Option(help="What to call the assignment; made from the clock when not given.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Bring an assignment of model versions into force with the scorer's next batch.

    A version of another feature declaration needs `plumbline prepare` first. The scorer refuses what it cannot do: the
    message is then in the dead-letter topic with the reason, and nothing changes.
    """
    import msgspec

    from plumbline.assignment import Assignment, parse
    from plumbline.errors import InvalidControl, InvalidSetting
    from plumbline.settings import load
    from streaming.control import publish

    settings = load()
    named = name or f"assigned-{time.time_ns() // 1000}"
    fields = {"type": "assignment", "version": named, "decides": decides, "shadows": shadow or []}
    try:
        assignment: Assignment = parse(msgspec.json.encode(fields))
    except InvalidControl as error:
        raise InvalidSetting("assign", error.field, error.value, error.allowed) from error
    offset = publish(settings.kafka_bootstrap, settings.topic_prefix, assignment)
    facts = {"version": named, "decides": decides, "shadows": list(assignment.shadows), "offset": offset}
    print(json.dumps(facts) if as_json else f"assignment {named} is on its way to the scorer (offset {offset})")
