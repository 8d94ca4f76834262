"""`plumbline settings`: what this process would run with, and where each value came from."""

import json
from typing import Annotated

import typer


def settings(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print every setting, its value (secrets masked) and where it came from."""
    from plumbline.settings import described, load

    rows = list(described(load()))
    if as_json:
        print(json.dumps({row.pop("variable"): row for row in rows}, indent=2))
        return
    widest = max(len(row["variable"]) for row in rows)
    for row in rows:
        print(f"{row['variable']:<{widest}}  {row['value'] or '(empty)'}  [{row['source']}]")
        print(f"{'':<{widest}}  {row['help']}")
