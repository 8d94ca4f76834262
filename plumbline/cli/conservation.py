"""`plumbline conservation`: what became of every acknowledged message, counted once; exit 1 on any imbalance."""

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from audit.counting import Balanced


def conservation(
    store: Annotated[bool, typer.Option(help="Count the rows in SQL too.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Count what became of every acknowledged message, from the journal's first entry; exit 1 on any imbalance."""
    from audit.counting import count_once
    from plumbline.settings import load
    from store.engine import open_engine
    from store.schema import require_current

    settings = load()
    engine = open_engine(settings) if store else None
    try:
        if engine is not None:
            require_current(engine)
        counted = count_once(
            settings.kafka_bootstrap, settings.topic_prefix, engine, lambda: time.time_ns() // 1_000_000
        )
    finally:
        if engine is not None:
            engine.dispose()
    if as_json:
        print(json.dumps(body(counted)))
    else:
        _print(counted)
    if counted.imbalance:
        raise typer.Exit(1)


def body(counted: "Balanced") -> dict[str, object]:
    """A count as JSON holds it."""
    return {
        "imbalance": counted.imbalance,
        "acknowledged": counted.acknowledged,
        "waiting": counted.waiting,
        "oldest_waiting_ms": counted.oldest_waiting_ms,
        **counted.kinds,
        "empty": counted.empty,
        "gone": counted.gone,
        "sequence": counted.sequence,
        "stored_sequence": counted.stored_sequence,
        "equations": [
            {"name": each.name, "place": each.place, "left": each.left, "right": each.right}
            for each in counted.equations
        ],
    }


_WORDS = {
    "acknowledged": "acknowledged = journaled + on their way",
    "once": "entries = messages journaled",
    "kinds": "entries = entries of the kinds that belong to the topic",
    "changes": "changes of policy or assignment = first ones + by messages",
    "active": "decisions = decisions under the active policy and assignment",
    "rejected": "rejected = rejected with a dead letter",
    "letters": "dead letters = dead letters with a rejected entry",
    "stored": "entries up to the ledger's sequence = rows in SQL + repeats",
}


def _print(counted: "Balanced") -> None:
    for each in counted.equations:
        mark = "" if each.difference == 0 else f"   <- {each.difference:+,}"
        print(f"{each.place or '-':<24} {_WORDS[each.name]:<62} {each.left:>12,} = {each.right:,}{mark}")
    oldest = counted.oldest_waiting_ms
    print(
        f"{counted.acknowledged:,} acknowledged, {counted.waiting:,} on their way"
        + ("" if oldest is None else f", the oldest for {oldest / 1000:.1f} s")
        + f"; {counted.empty:,} places without a message, {counted.gone:,} deleted before they could be counted"
    )
    print("balanced" if counted.imbalance == 0 else f"imbalance: {counted.imbalance:,}")
