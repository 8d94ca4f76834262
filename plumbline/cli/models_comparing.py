"""`plumbline models compare`: two versions side by side."""

import json
from typing import Any

from plumbline.cli.models_store import AsJson, Number, opened


def compare(one: Number, other: Number, as_json: AsJson = False) -> None:
    """Compare two versions: the facts of their making, metrics, slices, files, and how alike they score."""
    from release.comparing import compared
    from store.engine import transaction

    with opened() as (engine, _), transaction(engine) as session:
        found = compared(session, one, other)
    if as_json:
        print(json.dumps(found))
        return
    for name, (a, b) in found["facts"].items():
        print(f"{name:<32}{a!s:>26}{b!s:>26}")
    for name, (a, b) in found["metrics"].items():
        print(f"{name:<32}{_number(a):>26}{_number(b):>26}")
    for part, metrics in found["slices"].items():
        a, b = metrics.get("ap", [None, None])
        print(f"{'ap ' + part:<32}{_number(a):>26}{_number(b):>26}")
    for name, (a, b) in found["files"].items():
        print(f"{name:<32}{(a or '–')[:16]:>26}{(b or '–')[:16]:>26}")
    agreed = found["agreement"]
    if agreed is None:
        print("no transaction was decided by one and scored by the other as a shadow")
    else:
        print(f"{agreed['compared']:,} transactions scored by both: {agreed['equal']:,} alike to the bit, distance "
              f"{agreed['mean_distance']:.6f} on average, at most {agreed['max_distance']:.6f}")  # fmt: skip


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.5g}"
