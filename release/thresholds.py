"""A version's own thresholds come into force before it decides, as entries of the policy that is in force.

Each version has them in `policy.json` beside its graph, as its training chose them. The policy that brings them in
names the one that it replaces, so that a list or limit which a person changes meanwhile is never undone; and since the
policy comes first, there is no moment at which a version decides under the thresholds of another one.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from plumbline.errors import Refused
from plumbline.policy import THRESHOLDS_MOST, Policy, VersionThresholds, digest, encode
from release.publishing import first_policy, messages, send, sent_before, wait_in_force, was_refused

POLICY_FILE: Final = "assets.extra/policy.json"
TRIES: Final = 3


def own(base: Path, version: int) -> VersionThresholds | None:
    """The thresholds that a version brings along; None where it has none. Raises Refused for a file of no policy.

    base: folder of the model's versions. Lists and limits that may stand in the file are not taken.
    """
    file = base / str(version) / POLICY_FILE
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Policy)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise Refused(f"{file} holds no policy, so version {version} would have no thresholds ({error})") from error
    return VersionThresholds(version=version, review_at=found.review_at, decline_at=found.decline_at)


def with_own(policy: Policy, added: Sequence[VersionThresholds], kept: Collection[int] = ()) -> Policy:
    """A policy with thresholds of more versions, under a name of its own; itself where it has them already.

    What stands in the policy of a version is left as it is, since a person may have chosen it. kept: versions whose
    entries must stay where there are too many; of the others the oldest go.
    """
    there = {each.version for each in policy.thresholds}
    new = [each for each in added if each.version not in there]
    if not new:
        return policy
    every = sorted([*policy.thresholds, *new], key=lambda each: each.version)
    wanted = {*kept, *(each.version for each in new)}
    while len(every) > THRESHOLDS_MOST:
        every.remove(next((each for each in every if each.version not in wanted), every[0]))
    return named(msgspec.structs.replace(policy, thresholds=tuple(every), replaces=digest(policy)))


def kept_from(before: Policy, given: Policy) -> Policy:
    """A policy with the thresholds that the one in force has of versions which it does not name itself."""
    own_versions = {each.version for each in given.thresholds}
    kept = [each for each in before.thresholds if each.version not in own_versions]
    if not kept:
        return given
    return msgspec.structs.replace(
        given, thresholds=(*given.thresholds, *kept)[:THRESHOLDS_MOST], replaces=given.replaces or digest(before)
    )


def named(policy: Policy) -> Policy:
    """The policy under its name and a digest of everything in it; an older digest in the name gives way."""
    stem = policy.version.partition("+")[0][:46]
    body = encode(msgspec.structs.replace(policy, version="unnamed"))
    return msgspec.structs.replace(policy, version=f"{stem}+{hashlib.blake2b(body, digest_size=8).hexdigest()}")


def in_force(bootstrap: str, prefix: str) -> tuple[int | None, Policy]:
    """The newest policy on the control topic that was not refused, and its offset; the first start's before any.

    One that no scorer has taken yet counts, as it comes before whatever is sent now. Raises Refused where it cannot be
    told, BrokerUnavailable.
    """
    found = messages(bootstrap, prefix, Policy)
    for offset, policy in reversed(found):
        # What names no other policy is never refused.
        if not policy.replaces or not was_refused(bootstrap, prefix, offset):
            return offset, policy
    if found:
        raise Refused(
            f"the newest policy on the control topic, {found[-1][1].version}, was refused, and which one is in force "
            "cannot be told from there: bring a whole policy into force with `plumbline policy FILE --only`"
        )
    return None, first_policy(bootstrap, prefix)


def bring(
    bootstrap: str, prefix: str, base: Path, versions: Sequence[int], kept: Collection[int], wait_seconds: float
) -> Mapping[str, Any]:
    """Bring the thresholds of versions that will decide into force; what was done, as facts.

    kept: as in `with_own`; wait_seconds: how long a scorer may take. Done again it changes nothing. Raises Refused
    where other policies kept coming in between, BrokerUnavailable where no scorer took it.
    """
    found = {version: own(base, version) for version in versions}
    added = [each for each in found.values() if each is not None]
    facts = {"own": msgspec.to_builtins(added), "without": [version for version in versions if found[version] is None]}
    if not added:
        return {**facts, "policy": ""}
    for left in reversed(range(TRIES)):
        offset, policy = in_force(bootstrap, prefix)
        wanted = with_own(policy, added, kept)
        try:
            if wanted != policy:
                wait_in_force(bootstrap, prefix, send(bootstrap, prefix, wanted), wait_seconds, "policy")
            elif offset is not None and wanted.replaces:
                wait_in_force(bootstrap, prefix, sent_before(bootstrap, prefix, offset), wait_seconds, "policy")
        except Refused:
            if not left:
                raise
            continue
        return {**facts, "policy": wanted.version}
    raise AssertionError("the last try returns or raises")
