"""`plumbline policy`: brings a policy into force, or shows the newest."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from plumbline.policy import Policy


def policy(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="JSON file of the policy; `docs/schemas/control.json` says what is in it. Without it: show the newest."
        ),
    ] = None,
    only: Annotated[
        bool,
        typer.Option("--only", help="Drop the thresholds of versions that the file does not name; else they stay."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Bring a policy (thresholds, limits, lists) into force with the scorer's next batch, or show the newest."""
    import msgspec

    from plumbline.errors import InvalidControl
    from plumbline.policy import Policy, digest
    from plumbline.settings import load
    from release.thresholds import in_force, kept_from
    from streaming.control import publish

    settings = load()
    where = settings.kafka_bootstrap, settings.topic_prefix
    if file is None:
        offset, found = in_force(*where)
        facts = {**msgspec.to_builtins(found), "digest": digest(found), "offset": offset}
        print(json.dumps(facts) if as_json else "\n".join(_told(found)))
        return
    try:
        given = msgspec.json.decode(file.read_bytes(), type=Policy)
    except OSError as error:
        raise InvalidControl("policy", "file", str(file), f"a readable file ({error.strerror})") from error
    except msgspec.MsgspecError as error:
        raise InvalidControl("policy", "file", str(file), f"a policy ({error})") from error
    if not only:
        given = kept_from(in_force(*where)[1], given)
    offset = publish(*where, given)
    facts = {
        "version": given.version, "review_at": given.review_at, "decline_at": given.decline_at,
        "thresholds": msgspec.to_builtins(given.thresholds), "sample_per_mille": given.sample_per_mille,
        "digest": digest(given), "offset": offset,
    }  # fmt: skip
    if as_json:
        print(json.dumps(facts))
        return
    print(f"policy {given.version} is on its way to the scorer (offset {offset})")
    print("\n".join(_told(given)[1:]))


def _told(given: "Policy") -> list[str]:
    """A policy in lines: whose thresholds, what is let through, and how much is listed."""
    from plumbline.policy import digest

    lines = [f"policy {given.version}, digest {digest(given)}"]
    lines.append(f"  any other version: review from {given.review_at:g}, decline from {given.decline_at:g}")
    lines += [
        f"  version {each.version}: review from {each.review_at:g}, decline from {each.decline_at:g}"
        for each in given.thresholds
    ]
    if given.sample_per_mille:
        limit = given.sample_amount_max_minor
        up_to = "" if limit is None else f", up to an amount of {limit} minor units"
        lines.append(f"  {given.sample_per_mille} of 1000 declines by score alone are let through to review{up_to}")
    listed = len(given.declined_accounts), len(given.declined_merchants), len(given.declined_devices)
    lines.append("  declined: {} accounts, {} merchants, {} devices".format(*listed))
    if given.review_amount_minor is not None:
        lines.append(f"  review from an amount of {given.review_amount_minor} minor units")
    return lines
