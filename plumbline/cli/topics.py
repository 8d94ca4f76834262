"""`plumbline topics`: the topics exist as declared, or the command says which do not."""

from typing import Annotated

import typer


def topics(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Create the topics that are missing and compare the others with what is declared; exit 1 on a difference."""
    import json
    from dataclasses import asdict

    from plumbline.settings import load
    from streaming.topics import ensure_topics, require_as_declared

    settings = load()
    states = ensure_topics(settings.kafka_bootstrap, settings.topic_prefix, settings.transactions_partitions)
    if as_json:
        print(json.dumps({"bootstrap": settings.kafka_bootstrap, "topics": [asdict(state) for state in states]}))
    else:
        for state in states:
            print(f"{state.state:<9}  {state.partitions:>4} partition(s)  {state.name}")
    require_as_declared(states)
