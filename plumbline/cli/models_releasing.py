"""`plumbline models promote|rollback|carry-out`: a change of stage, asked for, allowed and carried out."""

import json
import signal
import sys
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbline.cli.models_site import Few, Journal, Wait, gate, site, tell
from plumbline.cli.models_store import AsJson, By, Number, moment, now_us, opened, request_facts

if TYPE_CHECKING:
    from store.model_tables import ModelRequest

Why = Annotated[str, typer.Option(help="Why, for the record and for the readers of the journal.")]


def promote(
    version: Number,
    to: Annotated[str, typer.Option(help="shadow, canary, champion or retired.")],
    by: By,
    share: Annotated[
        str, typer.Option(help="Accounts that a canary decides for, such as 1% or 10 (per mille). [default: 1%]")
    ] = "",
    why: Why = "",
    over: Annotated[
        bool, typer.Option("--over", help="Replace an assignment that the registry did not make, such as one by hand.")
    ] = False,
    accept_declines: Annotated[
        bool,
        typer.Option("--accept-declines", help="Accept a version that is held for the share it would decline."),
    ] = False,
    approve: Annotated[
        bool, typer.Option("--approve", help="Allow what somebody else asked for, and carry it out.")
    ] = False,
    journal: Journal = None,
    few: Few = False,
    wait_seconds: Wait = 180.0,
    as_json: AsJson = False,
) -> None:
    """Ask for a version's next stage; the same command with --approve, by a second person, carries it out."""
    from plumbline.cli.shares import per_mille
    from plumbline.errors import InvalidSetting
    from release.carrying import DECIDING, wanted
    from release.held import acceptance, require_accepted
    from release.stages import CANARY_FIRST, NEXT
    from release.state import registry_of
    from store import models
    from store.engine import transaction

    if to not in NEXT or to == "candidate":
        raise InvalidSetting("promote", "--to", to, "shadow, canary, champion or retired")
    accounts = per_mille(share, "--share") if share else CANARY_FIRST if to == "canary" else 0

    def meant(each: "ModelRequest") -> bool:
        named = (each.kind, each.version, each.to_stage) == ("promote", version, to)
        return named and (not share or each.per_mille == accounts)

    if approve:
        with site(wait_seconds) as (place, settings):
            with transaction(place.engine) as session:
                found = models.allowed(session, meant, by=by, now_us=now_us()).id
            with gate(settings, journal, few) as gated:
                carry_out_one(place, found, gated, as_json)
        return
    with opened() as (engine, _), transaction(engine) as session:
        found_version = models.model_version(session, version)
        request = models.ask(
            session, kind="promote", version=version, to_stage=to, per_mille=accounts, why=why, over=over, by=by,
            now_us=now_us(), evidence=(acceptance(found_version, by) or None) if accept_declines else None,
        )  # fmt: skip
        if to in DECIDING:
            require_accepted(found_version, request)
        wanted(registry_of(session), request)  # what is not lawful now is refused now, and not by the second person
        facts = request_facts(request)
    if as_json:
        print(json.dumps(facts))
    else:
        print(f"request {facts['id']} waits for a second person until {moment(facts['expires_at'])} UTC")


def rollback(
    by: By,
    version: Annotated[
        int | None, typer.Argument(min=1, help="A canary, an arm or the champion; the canary, or else the champion.")
    ] = None,
    why: Why = "",
    as_json: AsJson = False,
) -> None:
    """Take a canary's accounts away, or bring the champion of before back; one person may, and at once."""
    from release.carrying import roll_back

    with site() as (place, _):
        _print(roll_back(place, version, by=by, why=why, tell=tell), as_json)


def carry_out(
    request: Annotated[int | None, typer.Argument(min=1, help="Number of the request; all that are allowed.")] = None,
    follow: Annotated[
        float | None, typer.Option(min=0.01, help="Look again every so many minutes, until stopped.")
    ] = None,
    journal: Journal = None,
    few: Few = False,
    wait_seconds: Wait = 180.0,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Carry out what two people allowed, in the console or here, and what was broken off; one that fails is told."""
    from plumbline.errors import PlumblineError
    from store import models
    from store.engine import transaction

    stop = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT) if follow is not None else ():
        signal.signal(each, lambda *_: stop.set())
    with site(wait_seconds) as (place, settings), gate(settings, journal, few) as gated:
        while True:
            with transaction(place.engine) as session:
                numbers = [one.id for one in models.approved_requests(session)] if request is None else [request]
            for number in numbers:
                try:
                    carry_out_one(place, number, gated, as_json)
                except PlumblineError as error:
                    if follow is None:
                        raise
                    print(f"plumbline: request {number}: {error}", file=sys.stderr, flush=True)
            if follow is None or stop.wait(follow * 60):
                break
    if follow is None and not numbers and not as_json:
        print("no request is allowed and waits to be carried out")


def withdraw(request: Annotated[int, typer.Argument(min=1, help="Number of the request.")], by: By) -> None:
    """Take a request back that was not carried out."""
    from store import models
    from store.engine import transaction

    with opened() as (engine, _), transaction(engine) as session:
        models.withdraw(session, request, by=by, now_us=now_us())
    print(f"request {request} is withdrawn")


def carry_out_one(place: Any, request: int, gated: Any, as_json: bool) -> None:
    """Carry out one request, and tell what was checked."""
    from release.carrying import carry_out as carried

    _print({"request": request, **carried(place, request, gated, tell)}, as_json)


def _print(evidence: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(evidence))
        return
    for each in evidence.get("parity", []):
        print(f"version {each['version']}: {each['compared']} rows compared, {each['different_scores']} scores and "
              f"{each['different_features']} feature values different")  # fmt: skip
    for note in evidence.get("notes", []):
        print(note)
    assignment = evidence.get("assignment")
    print(f"assignment {assignment['version']} is in force" if assignment else "done; the scorer had nothing to change")
