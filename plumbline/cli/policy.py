"""`plumbline policy`: makes a policy the active one, or shows the newest.

It names the policy that it was written against, so the scorer refuses it where another one became active meanwhile;
and it waits for the scorer's answer, so that a refusal is seen by the person who sent it.
"""

import json
import sys
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
    wait_seconds: Annotated[
        float, typer.Option(min=0, help="How long to wait for the scorer's answer; without one it is still on its way.")
    ] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a policy (thresholds, limits, lists) the active one with the scorer's next batch, or show the newest.

    It is refused where another policy became active after this command read which one is.
    """
    import msgspec

    from plumbline.errors import BrokerUnavailable, InvalidControl
    from plumbline.policy import digest, parse, require_own_version
    from plumbline.settings import load
    from release.publishing import send, wait_in_force
    from release.thresholds import in_force

    settings = load()
    where = settings.kafka_bootstrap, settings.topic_prefix
    if file is None:
        offset, found = in_force(*where)
        facts = {**msgspec.to_builtins(found), "digest": digest(found), "offset": offset}
        print(json.dumps(facts) if as_json else "\n".join(_told(found)))
        return
    try:
        given = parse(file.read_bytes())
    except OSError as error:
        raise InvalidControl("policy", "file", str(file), f"a readable file ({error.strerror})") from error
    given = _replacing(*where, given, only=only)
    require_own_version(given, _earlier(*where, given))
    sent = send(*where, given)
    try:
        wait_in_force(*where, sent, wait_seconds, "policy")
        active = True
    except BrokerUnavailable:
        active = False
    facts = {
        "version": given.version, "review_at": given.review_at, "decline_at": given.decline_at,
        "thresholds": msgspec.to_builtins(given.thresholds), "sample_per_mille": given.sample_per_mille,
        "digest": digest(given), "replaces": given.replaces, "offset": sent.offset, "active": active,
    }  # fmt: skip
    if as_json:
        print(json.dumps(facts))
        return
    if active:
        print(f"policy {given.version} is active")
    else:
        print(
            f"policy {given.version} is on its way: no scorer took it within {wait_seconds:g} s (offset {sent.offset})"
        )
    print("\n".join(_told(given)[1:]))


def _replacing(bootstrap: str, prefix: str, given: "Policy", *, only: bool) -> "Policy":
    """The policy with the digest of the one that it replaces, and with that one's thresholds unless `only`."""
    import msgspec

    from plumbline.errors import Refused
    from plumbline.policy import digest
    from release.thresholds import in_force, kept_from

    try:
        _, active = in_force(bootstrap, prefix)
    except Refused as error:
        if not only:
            raise
        print(f"this policy replaces any other: {error}", file=sys.stderr)
        return given
    kept = given if only else kept_from(active, given)
    return msgspec.structs.replace(kept, replaces=kept.replaces or digest(active))


def _earlier(bootstrap: str, prefix: str, given: "Policy") -> dict[str, str]:
    """`content_digest` by version of an earlier policy with this version, as far as the control topic keeps it."""
    from plumbline.policy import Policy, content_digest
    from release.publishing import first_policy, messages, was_refused

    first = first_policy(bootstrap, prefix)
    found = {first.version: content_digest(first)}
    for offset, each in messages(bootstrap, prefix, Policy):
        same = each.version == given.version and content_digest(each) != content_digest(given)
        if same and not was_refused(bootstrap, prefix, offset):
            found[each.version] = content_digest(each)
    return found


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
