"""`plumbline models experiment start|status|stop`: versions side by side on fixed shares, until a stop rule speaks."""

import json
from typing import Annotated, Any

import typer

from plumbline.cli.models_releasing import Why, carry_out_one
from plumbline.cli.models_site import Few, Journal, Wait, gate, site
from plumbline.cli.models_store import AsJson, By, moment, now_us, opened, request_facts

experiment = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Versions side by side on fixed shares of the accounts."
)


@experiment.command()
def start(
    name: Annotated[str, typer.Argument(help="What to call it; accounts are dealt by this name.")],
    arm: Annotated[list[str], typer.Option(help="VERSION=SHARE of a shadow, such as 3=10%; may be given again.")],
    by: By,
    why: Why = "",
    approve: Annotated[
        bool, typer.Option("--approve", help="Allow what somebody else asked for, and carry it out.")
    ] = False,
    journal: Journal = None,
    few: Few = False,
    wait_seconds: Wait = 180.0,
    as_json: AsJson = False,
) -> None:
    """Ask for an experiment; the same command with --approve, by a second person, begins it."""
    from plumbline.cli.shares import arm as parsed
    from plumbline.errors import InvalidSetting, Refused
    from release.carrying import wanted
    from release.state import registry_of
    from store import models
    from store.engine import transaction

    arms = {str(version): share for version, share in map(parsed, arm)}
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise InvalidSetting("experiment", "name", name, "1 to 64 printable characters")
    if not approve:
        with opened() as (engine, _), transaction(engine) as session:
            request = models.ask(
                session, kind="experiment", name=name, arms=arms, why=why, by=by, now_us=now_us()
            )  # fmt: skip
            if any(each.name == name for each in models.experiments(session)):
                raise Refused(f"there was an experiment {name}: give another name, so that accounts are dealt anew")
            wanted(registry_of(session), request)
            facts = request_facts(request)
        print(json.dumps(facts) if as_json else f"request {facts['id']} waits for a second person until "
              f"{moment(facts['expires_at'])} UTC")  # fmt: skip
        return
    with site(wait_seconds) as (place, settings):
        with transaction(place.engine) as session:
            number = models.allowed(
                session, lambda each: (each.kind, each.name, each.arms) == ("experiment", name, arms), by=by,
                now_us=now_us(),
            ).id  # fmt: skip
        with gate(settings, journal, few) as gated:
            carry_out_one(place, number, gated, as_json)


@experiment.command()
def status(as_json: AsJson = False) -> None:
    """Show the experiment that runs, or else the newest, and what the stop rule says; exit 1 when there was none."""
    from plumbline.errors import NotFound
    from release.experiments import standing
    from store import models
    from store.engine import transaction

    with opened() as (engine, _), transaction(engine) as session:
        found = models.running_experiment(session) or next(iter(models.experiments(session)), None)
        if found is None:
            raise NotFound("there has been no experiment: `plumbline models experiment start`")
        now = standing(session, found).facts()
        facts = {
            "name": found.name, "champion": found.champion, "arms": found.arms, "started_at": found.started_at,
            "stopped_at": found.stopped_at, "winner": found.winner, "stopped_because": found.verdict, **now,
        }  # fmt: skip
    if as_json:
        print(json.dumps(facts))
        return
    ended = f", stopped {moment(facts['stopped_at'])}" if facts["stopped_at"] else " and runs"
    print(f"experiment {facts['name']} began {moment(facts['started_at'])}{ended}")
    for each in facts["sides"]:
        print(f"  version {each['version']}, {each['per_mille'] / 10:g} % of accounts: {each['caught']} caught, "
              f"{each['missed']} missed, {each['false_alerts']} alerted for nothing")  # fmt: skip
    print(_told(facts))


@experiment.command()
def stop(
    by: By,
    winner: Annotated[
        int | None, typer.Option(min=1, help="The arm that goes on as canary; when not given all arms retire.")
    ] = None,
    why: Why = "",
    wait_seconds: Wait = 180.0,
    as_json: AsJson = False,
) -> None:
    """Stop the experiment that runs: one person may, as no account goes to a version that had none of its kind."""
    from plumbline.errors import Refused
    from release.carrying import carry_out_ungated
    from release.experiments import standing
    from store import models
    from store.engine import transaction

    with site(wait_seconds) as (place, _):
        with transaction(place.engine) as session:
            running = models.running_experiment(session)
            if running is None:
                raise Refused("no experiment runs")
            request = models.ask_alone(
                session, kind="stop", by=by, version=winner, why=why, now_us=now_us(),
                evidence={"standing": standing(session, running).facts()},
            )  # fmt: skip
            number = request.id
        evidence = carry_out_ungated(place, number)
    print(json.dumps(evidence) if as_json else "the experiment is stopped")


def _told(facts: dict[str, Any]) -> str:
    if facts["verdict"] == "continue":
        return f"go on: evidence {facts['evidence']:.2f} of {facts['needed']:.2f}"
    return f"{facts['verdict']}: version {facts['version']}, {facts['because']}"
