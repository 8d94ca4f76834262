"""Which model versions answer: one decides, others decide for a share of the accounts, or score without a say.

An assignment is a message on the `control` topic, as a policy is. Before the first one the version that was met first
scores, under the policy that the journal began with: every payment goes to review. A version of another feature
declaration can only come in by an assignment, since its history has to be prepared first.
"""

import hashlib
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta

from plumbline.errors import InvalidControl
from plumbline.refusal import decoded
from plumbline.transaction import Id

ModelNumber = Annotated[int, Meta(ge=1, le=2**53 - 1, description="A model version's number.")]

PER_MILLE: Final = 1000
ASSIGNMENT_MAX_BYTES: Final = 8192
READY_MOST: Final = 4
"""Former champions whose history goes on; it costs what the history of each of their declarations costs."""

NO_ASSIGNMENT: Final = "none"
"""What `replaces` calls the state before the first assignment of all."""

Route = Literal["newest", "champion", "canary", "experiment", "fallback"]
"""Why a version decided: there was no assignment, and it was the first that was met (`newest`, as older releases took
the newest one); it was the champion; its arm had the account, of a canary or of an experiment; or it was the champion
that decided for an arm that did not answer."""


class Arm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version that decides for some of every thousand accounts."""

    version: ModelNumber
    per_mille: Annotated[int, Meta(ge=1, le=PER_MILLE, description="Accounts of every thousand.")]


class Assignment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="assignment"):
    """The versions that decide from the next decision on, and those that are journaled beside them.

    decides: the champion, which has every account that no arm has; arms: of a canary or an experiment (A/B), by `kind`;
    salt: accounts are dealt to arms anew under another one; why: for the readers of the journal; replaces: the name of
    the assignment that must be in force, or this one is refused (empty: any; `none`: there must be none yet), so that a
    rollback never undoes what it has not judged; ready: versions that answer nothing, and whose declarations' history
    goes on all the same, so that a later assignment may bring them back at once (former champions); left out where
    there are none.
    """

    version: Id
    decides: ModelNumber
    shadows: Annotated[tuple[ModelNumber, ...], Meta(max_length=4)] = ()
    arms: Annotated[tuple[Arm, ...], Meta(max_length=4)] = ()
    kind: Literal["canary", "experiment"] = "canary"
    salt: Annotated[str, Meta(max_length=64)] = ""
    why: Annotated[str, Meta(max_length=500)] = ""
    replaces: Annotated[str, Meta(max_length=64)] = ""
    ready: Annotated[tuple[ModelNumber, ...], Meta(min_length=1, max_length=READY_MOST)] | msgspec.UnsetType = UNSET

    def __post_init__(self) -> None:
        arms = [arm.version for arm in self.arms]
        if len(set(self.versions)) != len(self.versions):
            ready = f" and {list(self.kept_ready)} kept ready" if self.kept_ready else ""
            raise ValueError(
                f"shadows are {list(self.shadows)} and arms {arms} beside {self.decides}{ready}: expected each once"
            )
        if (taken := sum(arm.per_mille for arm in self.arms)) > PER_MILLE:
            raise ValueError(f"arms take {taken} of every thousand accounts: expected {PER_MILLE} at most")

    @property
    def kept_ready(self) -> tuple[int, ...]:
        """Versions that answer nothing, and may come back at once."""
        return () if self.ready is UNSET else self.ready

    @property
    def answering(self) -> tuple[int, ...]:
        """Every version that answers: the champion, then those of arms, then shadows."""
        return (self.decides, *(arm.version for arm in self.arms), *self.shadows)

    @property
    def versions(self) -> tuple[int, ...]:
        """Every version named: those that answer, then those kept ready."""
        return (*self.answering, *self.kept_ready)

    def may_replace(self, active: "Assignment | None") -> bool:
        """Whether this one may come into force after another (None: the first of all)."""
        return self.replaces in ("", NO_ASSIGNMENT if active is None else active.version)

    def routed(self, account_id: str) -> tuple[int, Route]:
        """The version that decides for an account, and why; the same on every scorer, and while an arm only grows."""
        place = bucket(self.salt, account_id) if self.arms else PER_MILLE
        for arm in self.arms:
            if place < arm.per_mille:
                return arm.version, self.kind
            place -= arm.per_mille
        return self.decides, "champion"


def bucket(salt: str, account_id: str) -> int:
    """An account's place from 0 to 999, which arms take from 0 up.

    >>> bucket("", "account-1"), bucket("", "account-2"), bucket("another", "account-1")
    (894, 929, 196)
    """
    digest = hashlib.blake2b(f"{salt}\0{account_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % PER_MILLE


_decoder = msgspec.json.Decoder(Assignment)


def parse(raw: bytes) -> Assignment:
    """The Assignment in a control message's bytes.

    raw: UTF-8 JSON object of at most 8,192 bytes, with `"type": "assignment"`.
    Raises InvalidControl, which names the field, its value and what was allowed.
    """
    return decoded(InvalidControl, "assignment", Assignment, _decoder, raw, ASSIGNMENT_MAX_BYTES)
