"""`plumbline policy`: brings a policy into force."""

import json
from pathlib import Path
from typing import Annotated

import typer


def policy(
    file: Annotated[
        Path, typer.Argument(help="JSON file of the policy; `docs/schemas/control.json` says what is in it.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Bring a policy (thresholds, limits, lists) into force with the scorer's next batch."""
    import msgspec

    from plumbline.errors import InvalidControl
    from plumbline.policy import Policy
    from plumbline.settings import load
    from streaming.control import publish

    settings = load()
    try:
        given = msgspec.json.decode(file.read_bytes(), type=Policy)
    except OSError as error:
        raise InvalidControl("policy", "file", str(file), f"a readable file ({error.strerror})") from error
    except msgspec.MsgspecError as error:
        raise InvalidControl("policy", "file", str(file), f"a policy ({error})") from error
    offset = publish(settings.kafka_bootstrap, settings.topic_prefix, given)
    facts = {"version": given.version, "review_at": given.review_at, "decline_at": given.decline_at, "offset": offset}
    print(json.dumps(facts) if as_json else f"policy {given.version} is on its way to the scorer (offset {offset})")
