"""`plumbline models list|show|register`: what the registry holds, and how a version comes into it."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from plumbline.cli.models_store import (
    AsJson,
    Number,
    change_facts,
    moment,
    now_us,
    opened,
    request_facts,
    version_facts,
)

if TYPE_CHECKING:
    from store.model_tables import ModelVersion


def list_(as_json: AsJson = False) -> None:
    """List versions with their stages, requests that wait, and what is in force against what the registry wishes."""
    import msgspec

    from release.assigning import assigned
    from release.state import differs, in_force, registry_of
    from store import models
    from store.engine import transaction

    with opened() as (engine, _), transaction(engine) as session:
        versions = models.model_versions(session)
        waiting = models.open_requests(session, now_us())
        approved = models.approved_requests(session)
        wish, found, difference = assigned(registry_of(session), "wish"), in_force(session), differs(session)
        if as_json:
            print(json.dumps({
                "versions": [version_facts(each) for each in versions],
                "waiting": [request_facts(each) for each in waiting],
                "approved": [request_facts(each) for each in approved],
                "wish": None if wish is None else msgspec.to_builtins(wish),
                "in_force": None if found is None else msgspec.to_builtins(found),
                "difference": difference,
            }))  # fmt: skip
            return
    for each in versions:
        share = f" {each.per_mille / 10:g} %" if each.per_mille else ""
        quality = f"ap {each.metrics['ap']:.4f}" if "ap" in each.metrics else ""
        print(f"{each.version}\t{each.stage}{share}\t{moment(each.trained_at)}\t{each.train_days}\t{each.fingerprint}"
              f"\t{each.made_by}\t{quality}")  # fmt: skip
    for asked in (*waiting, *approved):
        what = f"version {asked.version} to {asked.to_stage}" if asked.kind == "promote" else asked.kind
        state = {
            models.WAITING: "waits for a second person", models.APPROVED: "is allowed: `models carry-out`",
            models.APPLYING: "is published: `models reconcile` records what becomes of it",
        }[asked.state]  # fmt: skip
        print(f"request {asked.id}: {what}, by {asked.asked_by}, {state}")
    if not versions:
        print("no version is registered: `plumbline models register`")
    if difference:
        print(difference)


def show(version: Number, as_json: AsJson = False) -> None:
    """Show everything about a version: the facts of its making, its metrics, its files, and every change of it."""
    from store import models
    from store.engine import transaction

    with opened() as (engine, _), transaction(engine) as session:
        found = models.model_version(session, version)
        changes = models.changes(session, version)
        if as_json:
            facts = version_facts(found)
            print(json.dumps({**facts, "card": found.card, "changes": [change_facts(each) for each in changes]}))
            return
    _tell(found)
    for each in changes:
        allowed = f", allowed by {each.approved_by}" if each.approved_by else ""
        why = f": {each.why}" if each.why else ""
        print(f"  {moment(each.at)}  {each.from_stage or '–'} -> {each.to_stage}  {each.kind} by {each.asked_by}"
              f"{allowed}{why}")  # fmt: skip


def register(
    version: Annotated[int | None, typer.Argument(min=1, help="Its number; the newest when not given.")] = None,
    by: Annotated[str, typer.Option(help="Who trained it, where its card does not say. [default: who runs this]")] = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Read a version's card, hold its files against their digests, and add it to the registry as a candidate."""
    from plumbline.errors import ModelVersionNotFound
    from release.registering import register as registered
    from store.engine import transaction
    from training.files import newest_version
    from training.provenance import operator

    with opened() as (engine, settings):
        number = version or newest_version(settings.models_path)
        if number is None:
            raise ModelVersionNotFound(f"{settings.models_path} holds no version: `plumbline train` makes one")
        with transaction(engine) as session:
            found = registered(session, settings.models_path, number, by=by or operator(), now_us=now_us())
            facts = version_facts(found)
    if as_json:
        print(json.dumps(facts))
    else:
        print(f"version {number} is in the registry as {facts['stage']}, with {len(facts['files'])} files")


def _tell(version: "ModelVersion") -> None:
    share = f", {version.per_mille / 10:g} % of accounts" if version.per_mille else ""
    facts = {
        "trained": f"{moment(version.trained_at)} by {version.made_by or '–'}",
        "on": f"{version.train_days}, tested on {version.test_days}",
        "rows": ", ".join(f"{name} {count:,}" for name, count in version.rows.items()),
        "seed": version.seed,
        "commit": version.code_commit or "–",
        "lock": version.lock_sha256 or "–",
        "archive": version.archive_digest or "–",
        "declaration": version.fingerprint,
        "metrics": ", ".join(f"{name} {value:.5g}" for name, value in version.metrics.items()),
        "gate": "–" if version.gate is None else version.gate.get("verdict"),
    }
    print(f"version {version.version} of {version.name}: {version.stage}{share}")
    for name, value in facts.items():
        print(f"  {name:<12}{value}")
    for name, found in version.slices.items():
        quality = f"ap {found['ap']:.4f}" if "ap" in found else "no fraud, or nothing else"
        print(f"  {name:<28}{int(found['rows']):>9,} rows {int(found['frauds']):>7,} frauds  {quality}")
    for name, digest in version.files.items():
        print(f"  {digest[:16]}  {name}")


def config(as_json: AsJson = False) -> None:
    """Print what the registry wishes as a `model_config_list`, for a server that reads a configuration file."""
    from plumbline.cli.models_site import model_server
    from release.serving import config_text, labels, needed
    from release.state import registry_of
    from store.engine import transaction

    with opened() as (engine, settings), transaction(engine) as session:
        registry = registry_of(session)
        text = config_text(model_server(settings), registry)
    if as_json:
        print(json.dumps({"text": text, "versions": needed(registry), "labels": labels(registry)}))
    else:
        print(text, end="")
