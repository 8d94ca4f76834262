"""From a score to an outcome: a pure function of a transaction, a score and a versioned Policy.

A rule can only make an outcome more severe. Without a score the answer is at least `review`: no fault approves.

What is declined has no label, so a model that is judged by labels alone is never told of its wrong declines. Therefore
a policy may let a known share of what a score alone would decline through to review. Who is let through follows from
the salt and the transaction's id alone, so that scorer, standby, replay and audit say the same.
"""

import hashlib
import math
import re
import struct
from collections.abc import Mapping
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from plumbline.assignment import PER_MILLE, ModelNumber
from plumbline.decision import LET_THROUGH, MODEL_UNAVAILABLE, SAMPLE_MOST, Outcome, Reason, Score
from plumbline.errors import InvalidControl
from plumbline.refusal import decoded
from plumbline.transaction import AmountMinor, Id, Transaction

Threshold = Annotated[float, Meta(ge=0, le=2, description="Rounded to a float32, as scores are, when it is read.")]

SALT_LEAST: Final = 16
"""Characters of a sample's salt: whoever could guess it could choose transaction ids that are let through."""
THRESHOLDS_MOST: Final = 64

MAX_KNOWN_VERSIONS: Final = 4_096
"""Versions of earlier policies that a scorer remembers; the oldest gives way to the next."""

_PATTERN_MARKS: Final = re.compile(r"[*?%\\^\[\]{}|]|\$$")
_LISTS: Final = ("declined_accounts", "declined_merchants", "declined_devices")


def float32(value: float) -> float:
    """The float32 nearest to a number: what is compared with a score has a score's precision.

    >>> float32(0.5), float32(0.7)
    (0.5, 0.699999988079071)
    """
    nearest: float = struct.unpack("f", struct.pack("f", value))[0]
    return nearest


class VersionThresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The thresholds that hold where one model version decides, in place of the policy's own."""

    version: ModelNumber
    review_at: Threshold
    decline_at: Threshold

    def __post_init__(self) -> None:
        _round_thresholds(self)


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="policy"):
    """Thresholds, limits and lists under which scores become outcomes; a threshold above 1 is never reached.

    A score at or above `decline_at` declines, at or above `review_at` goes to review; `thresholds` holds other ones for
    single model versions. All of them become float32, as scores are, when a policy is made or read. Of what a score
    alone would decline, `sample_per_mille` of every thousand are let through to review, up to the amount
    `sample_amount_max_minor`; never what a list declines. `replaces`: `digest` of the policy that must be active, or
    this one is refused (empty: any), so that nobody undoes what he has not seen.
    """

    version: Id
    review_at: Threshold = 0.5
    decline_at: Threshold = 0.9
    review_amount_minor: AmountMinor | None = None
    declined_accounts: frozenset[Id] = frozenset()
    declined_merchants: frozenset[Id] = frozenset()
    declined_devices: frozenset[Id] = frozenset()
    thresholds: Annotated[tuple[VersionThresholds, ...], Meta(max_length=THRESHOLDS_MOST)] = ()
    sample_per_mille: Annotated[int, Meta(ge=0, le=SAMPLE_MOST)] = 0
    sample_salt: Annotated[str, Meta(max_length=64)] = ""
    sample_amount_max_minor: AmountMinor | None = None
    replaces: Annotated[str, Meta(max_length=64)] = ""

    def __post_init__(self) -> None:
        _round_thresholds(self)
        _require_ordered("", self.review_at, self.decline_at)
        for each in self.thresholds:
            _require_ordered(f"thresholds of version {each.version}: ", each.review_at, each.decline_at)
        versions = [each.version for each in self.thresholds]
        if len(set(versions)) != len(versions):
            raise ValueError(f"thresholds are of versions {versions}: expected each version once")
        if self.sample_per_mille and len(self.sample_salt) < SALT_LEAST:
            raise ValueError(
                f"sample_salt has {len(self.sample_salt)} characters: expected {SALT_LEAST} or more where "
                "sample_per_mille is above 0, so that nobody outside can tell which transactions are let through"
            )

    def pair(self, version: int) -> tuple[float, float]:
        """The thresholds `review_at` and `decline_at` that hold where a version decides."""
        for each in self.thresholds:
            if each.version == version:
                return each.review_at, each.decline_at
        return self.review_at, self.decline_at


def _round_thresholds(given: Policy | VersionThresholds) -> None:
    for name in ("review_at", "decline_at"):
        value = getattr(given, name)
        if not 0 <= value <= 2:
            raise ValueError(f"{name} is {value}: expected 0 to 2")
        msgspec.structs.force_setattr(given, name, float32(value))


def _require_ordered(subject: str, review_at: float, decline_at: float) -> None:
    if review_at > decline_at:
        raise ValueError(
            f"{subject}review_at is {review_at:g}: expected at most decline_at ({decline_at:g}), "
            "since review is the milder outcome"
        )


DEFAULT_POLICY = Policy(version="default")
"""The field's defaults, under which older releases began their journals."""

FIRST_POLICY = Policy(version="review-all", review_at=0.0, decline_at=2.0)
"""What a journal begins with: a version whose thresholds nobody brought is not trusted with more than a review."""

POLICY_MAX_BYTES: Final = 1_000_000

_decoder = msgspec.json.Decoder(Policy)
encode = msgspec.json.Encoder(order="deterministic").encode


def parse(raw: bytes, *, patterns: bool = False) -> Policy:
    """The Policy in a control message's bytes.

    raw: UTF-8 JSON object of at most 1,000,000 bytes, with `"type": "policy"`; patterns: accept list entries that look
    like patterns, as older releases did.
    Raises InvalidControl, which names the field, its value and what was allowed.
    """
    policy = decoded(InvalidControl, "policy", Policy, _decoder, raw, POLICY_MAX_BYTES)
    if not patterns:
        _require_plain_entries(policy)
    return policy


def _require_plain_entries(policy: Policy) -> None:
    for name in _LISTS:
        for entry in sorted(getattr(policy, name)):
            if _PATTERN_MARKS.search(entry):
                allowed = "a whole id: lists know no patterns, so this entry would match nothing"
                raise InvalidControl(f"policy {policy.version}", name, entry, allowed)


def digest(policy: Policy) -> str:
    """What `replaces` calls a policy: the first 16 hexadecimal digits of the SHA-256 of its bytes."""
    return hashlib.sha256(encode(policy)).hexdigest()[:16]


def content_digest(policy: Policy) -> str:
    """As `digest`, of everything but `replaces`: the same thresholds, limits and lists under the same version."""
    return digest(msgspec.structs.replace(policy, replaces=""))


def require_own_version(given: Policy, known: Mapping[str, str]) -> None:
    """Raises InvalidControl where an earlier policy had this version and other contents.

    known: `content_digest` of earlier policies by version.
    """
    found = known.get(given.version)
    if found is not None and found != content_digest(given):
        allowed = "a version of its own: an earlier policy has this one and other contents, and decisions name only it"
        raise InvalidControl(f"policy {given.version}", "version", given.version, allowed)


def require_replaced(given: Policy, in_force: Policy | None) -> None:
    """Raises InvalidControl where a policy names another one than that in force."""
    if not given.replaces:
        return
    found = "" if in_force is None else digest(in_force)
    if given.replaces != found:
        now = "of which there is none" if in_force is None else f"{in_force.version} with digest {found}"
        raise InvalidControl(f"policy {given.version}", "replaces", given.replaces, f"the policy in force, {now}")


class Judged(NamedTuple):
    """What a policy makes of a score: the outcome, the rules or faults that led to it, and the sample's chance.

    sample_per_mille: as in `plumbline.decision.Decision`. Features' reasons are added by whoever asks the model.
    """

    outcome: Outcome
    reasons: tuple[Reason, ...]
    sample_per_mille: int = 0


def decide(transaction: Transaction, score: Score | None, policy: Policy) -> Judged:
    """The outcome of a transaction under a policy.

    score: the deciding version's, a float32 in [0, 1], or None when no model answered; NaN, which no comparison would
    stop, counts as no answer.
    """
    outcome, sampled = Outcome.APPROVE, 0
    reasons: list[Reason] = []
    hits = _rules(transaction, policy)
    if score is None or math.isnan(score.value):
        outcome = Outcome.REVIEW
        reasons.append(MODEL_UNAVAILABLE)
    else:
        review_at, decline_at = policy.pair(score.model_version)
        value = float32(score.value)
        if value >= decline_at:
            outcome, sampled = Outcome.DECLINE, _sampled(transaction, hits, policy)
            if sampled and sample_place(policy.sample_salt, transaction.transaction_id) < sampled:
                outcome = Outcome.REVIEW
                reasons.append(LET_THROUGH)
        elif value >= review_at:
            outcome = Outcome.REVIEW
    for code, severity in hits:
        outcome = max(outcome, severity)
        reasons.append(Reason("rule", code))
    return Judged(outcome, tuple(reasons), sampled)


def sample_place(salt: str, transaction_id: str) -> int:
    """A transaction's place from 0 to 999; those below `sample_per_mille` are let through.

    >>> sample_place("sixteen letters!", "t-1"), sample_place("sixteen letters!", "t-2"), sample_place("another", "t-1")
    (966, 808, 234)
    """
    drawn = hashlib.blake2b(f"{salt}\0{transaction_id}".encode(), digest_size=8, person=b"plumbline-sample").digest()
    return int.from_bytes(drawn, "big") % PER_MILLE


def _sampled(transaction: Transaction, hits: list[tuple[str, Outcome]], policy: Policy) -> int:
    """How many of every thousand like this one are let through, where its score alone would decline."""
    if any(severity is Outcome.DECLINE for _, severity in hits):
        return 0
    limit = policy.sample_amount_max_minor
    return policy.sample_per_mille if limit is None or transaction.amount_minor <= limit else 0


def _rules(transaction: Transaction, policy: Policy) -> list[tuple[str, Outcome]]:
    hits = []
    if transaction.account_id in policy.declined_accounts:
        hits.append(("declined_account", Outcome.DECLINE))
    if transaction.merchant_id in policy.declined_merchants:
        hits.append(("declined_merchant", Outcome.DECLINE))
    if transaction.device_id and transaction.device_id in policy.declined_devices:
        hits.append(("declined_device", Outcome.DECLINE))
    if policy.review_amount_minor is not None and transaction.amount_minor >= policy.review_amount_minor:
        hits.append(("review_amount", Outcome.REVIEW))
    return hits
