"""`plumbline replay`: one past decision, computed again under the versions of then; exit 1 when any field differs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from audit.replay import Replayed
    from plumbline.settings import Settings


def replay(
    transaction_id: Annotated[str, typer.Argument(help="The transaction whose decision is computed again.")],
    archive: Annotated[
        Path | None, typer.Option(help="Archive that came before the journal. [default: PLUMBLINE_ARCHIVE]")
    ] = None,
    models_dir: Annotated[
        Path | None, typer.Option(help="Folder of models. [default: models in the data folder]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compute one past decision again under the versions of then, and show it field by field; exit 1 if any differs."""
    from plumbline.cli.quiet import import_tensorflow_quietly
    from plumbline.settings import load

    settings = load()
    import_tensorflow_quietly()
    from audit.models import Versions
    from audit.past import Journal, Sources
    from audit.prehistory import archive_before
    from audit.replay import replay as run

    before, until_us = archive_before(settings, archive)
    models = (models_dir or settings.data_path / "models") / settings.model_name
    sources = Sources(Journal(settings.kafka_bootstrap, settings.topic_prefix), before, until_us, models)
    found = run(sources, Versions(models), transaction_id, _hint(settings, transaction_id))
    if as_json:
        print(json.dumps(body(found)))
    else:
        _print(found)
    if not found.equal:
        raise typer.Exit(1)


def _hint(settings: "Settings", transaction_id: str) -> int | None:
    """The decision's sequence number where SQL knows it; the journal is searched where not."""
    from sqlalchemy.exc import SQLAlchemyError

    from plumbline.errors import PlumblineError
    from store.decisions import decision
    from store.engine import open_engine, transaction

    engine = open_engine(settings)
    try:
        with transaction(engine) as session:
            return decision(session, transaction_id).sequence
    except (PlumblineError, SQLAlchemyError):
        return None
    finally:
        engine.dispose()


def body(found: "Replayed") -> dict[str, object]:
    """A replay as JSON holds it."""
    from msgspec import to_builtins

    return {"equal": found.equal, "different": len(found.different), **to_builtins(found)}


def _print(found: "Replayed") -> None:
    version = "no model" if found.model_version is None else f"model version {found.model_version}"
    print(
        f"{found.transaction_id}: journal entry {found.sequence}, declaration {found.fingerprint}, {version}, "
        f"policy {found.policy_version}"
    )
    if not found.raw:
        print("the message itself is no longer in its topic: its parsed form in the journal was taken")
    for each in found.fields:
        mark = "=" if each.equal else "≠"
        print(
            f"{mark} {each.layer:<11} {each.name:<34} {each.journaled}"
            + ("" if each.equal else f" ≠ {each.recomputed}")
        )
    print("equal" if found.equal else f"different: {len(found.different)} of {len(found.fields)} fields")
