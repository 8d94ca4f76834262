"""`plumbline migrate`: the SQL tables are brought to this version's schema; the only command that changes tables."""

import json
from typing import Annotated

import typer


def migrate(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Bring the SQL tables to the newest version, in one transaction; does nothing when they are there."""
    from plumbline.settings import load
    from store import schema
    from store.engine import open_engine

    engine = open_engine(load())
    before, after = schema.migrate(engine)
    if as_json:
        database = engine.url.render_as_string(hide_password=True)
        print(json.dumps({"database": database, "before": before, "after": after, "changed": before != after}))
    elif before == after:
        print(f"The SQL tables are of revision {after} already.")
    else:
        print(f"The SQL tables are of revision {after} now ({'none' if before is None else before} before).")
    engine.dispose()
