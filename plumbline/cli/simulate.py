"""`plumbline simulate`: an archive of a made-up bank's payments, the same for the same options and seed."""

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer


def simulate(
    *,
    to: Annotated[Path, typer.Option("--to", help="Folder of the archive to be written.")],
    accounts: Annotated[int, typer.Option(help="How many accounts pay.", min=10)] = 2000,
    days: Annotated[int, typer.Option(help="How many days are simulated.", min=1)] = 365,
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The first day (UTC).")] = datetime(2024, 1, 1),  # noqa: DTZ001 # a day, not a moment
    seed: Annotated[int, typer.Option(help="Another seed is another bank.", min=0)] = 7,
    transactions_per_account_day: Annotated[float, typer.Option(help="Mean payments of an account a day.")] = 1.5,
    fraud_rate: Annotated[
        float, typer.Option(help="Share of frauds among transactions, about.", min=0, max=0.5)
    ] = 0.003,
    names: Annotated[bool, typer.Option("--names", help="Call merchants by readable names, not by numbers.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of an archive that is there.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write an archive of simulated payments and frauds."""
    import structlog

    from archive.simulation.run import Plan
    from archive.simulation.run import simulate as run

    plan = Plan(
        accounts=accounts,
        days=days,
        start=start.date(),
        seed=seed,
        transactions_per_account_day=transactions_per_account_day,
        fraud_rate=fraud_rate,
        names=names,
    )
    begun = time.perf_counter()
    manifest = run(plan, to, replace=replace).manifest
    seconds = time.perf_counter() - begun
    structlog.get_logger().info("simulated", seconds=round(seconds, 1), per_second=round(manifest.rows / seconds))
    if as_json:
        body = {"archive": str(to), "rows": manifest.rows, "labels": manifest.labels, "digest": manifest.digest}
        print(json.dumps(body | {"seconds": round(seconds, 3)}))
    else:
        print(f"{to}: {manifest.rows} transactions and {manifest.labels} fraud labels, digest {manifest.digest}")
