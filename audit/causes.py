"""The likely cause of a difference: a pure function of what is known around it.

It names what an auditor should look at first, and why. It is a likelihood: what was journaled and what was recomputed
stand beside it as bits, so that anybody can judge otherwise.
"""

import enum
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final

from audit.report import LAYERS, Difference, Report

FEW: Final = 3
FEW_SHARE: Final = 0.01
NEAR_ULPS: Final = 4096
"""Scores this near to one another come of the same numbers, rounded elsewhere: 4,096 ulps are 0.05 %."""


@enum.unique
class Cause(enum.Enum):
    """What may have happened, in words for the report."""

    DECLARATION = "another declaration: the record or its model was made under other features than this release's"
    FILES = "another model file: what scored was not the files of this version"
    HOST = "another kind of host: the same numbers, rounded otherwise in their last bits"
    RECORD = "a changed record: it differs alone, while its neighbours agree"
    STATE = "another state: the scorer's history was not the fold of this journal and its archive"
    MISSING = "a missing record: a message was taken, and its entry is not in the journal"
    EXTRA = "an added record: no message stands behind it"
    UNORDERED = "a change without a message: the journal has a second beginning, or none"
    POLICY = "an unknown policy: the journal never brought this one into force"
    SNAPSHOT = "another fold: the snapshot is not what the journal leads to; remove it, and the journal rebuilds it"
    FOLLOWS = "it follows from a difference above"
    TWO_WAYS = "the audit's own two ways disagree: the Beam pipeline or the kernel is at fault, not the record"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known around a difference.

    declarations: fingerprints under which was recomputed; layers: in which the same entry differs; ways_agree: whether
    key by key and in one sweep its history came out the same; compared, different: entries of the layer (for a score,
    of the same model version); as_exported: whether the version's files are those that its card lists; same_host:
    whether this machine is of the kind that the version's card names. None: not known.
    """

    declarations: frozenset[str]
    layers: frozenset[str] = frozenset()
    ways_agree: bool = True
    compared: int = 1
    different: int = 1
    as_exported: bool | None = None
    same_host: bool | None = None

    @property
    def few(self) -> bool:
        """Whether so few entries differ that the others speak for the way they were all made."""
        return self.different <= max(FEW, self.compared * FEW_SHARE)


def cause_of(difference: Difference, known: Evidence) -> Cause:
    """The likely cause of one difference."""
    if difference.name == "declaration" or (
        difference.fingerprint and difference.fingerprint not in known.declarations
    ):
        return Cause.DECLARATION
    of_layer: dict[str, Callable[[Difference, Evidence], Cause]] = {
        "intake": _of_intake,
        "history": _of_history,
        "sweep": _of_history,
        "features": _of_features,
        "score": _of_score,
        "reasons": _of_reasons,
        "outcome": _of_outcome,
        "snapshot": lambda _difference, _known: Cause.SNAPSHOT,
    }
    return of_layer.get(difference.layer, _of_record)(difference, known)


def _of_record(difference: Difference, known: Evidence) -> Cause:
    return Cause.EXTRA if difference.recomputed == "no message" else Cause.RECORD


def _of_intake(difference: Difference, known: Evidence) -> Cause:
    if difference.name == "message":
        return Cause.UNORDERED
    if difference.journaled == "absent":
        return Cause.MISSING
    if "transaction" in known.layers:
        return Cause.FOLLOWS
    return Cause.RECORD if known.few else Cause.STATE


def _of_history(difference: Difference, known: Evidence) -> Cause:
    if not known.ways_agree:
        return Cause.TWO_WAYS
    if difference.recomputed == "absent":
        return Cause.FOLLOWS if known.layers & {"transaction", "intake"} else Cause.RECORD
    return Cause.RECORD if known.few else Cause.STATE


def _of_features(difference: Difference, known: Evidence) -> Cause:
    if known.layers & {"transaction", "history", "sweep"}:
        return Cause.FOLLOWS
    # One graph of the same numbers, in batches of another size: it promises not to depend on them.
    return Cause.FILES if known.as_exported is False else Cause.TWO_WAYS


def _of_score(difference: Difference, known: Evidence) -> Cause:
    return _of_model(difference, known, frozenset({"transaction", "history", "sweep"}))


def _of_reasons(difference: Difference, known: Evidence) -> Cause:
    return _of_model(difference, known, frozenset({"transaction", "history", "sweep", "score", "outcome"}))


def _of_model(difference: Difference, known: Evidence, above: frozenset[str]) -> Cause:
    if known.as_exported is False:
        return Cause.FILES
    if known.layers & above:
        return Cause.FOLLOWS
    near = difference.distance_ulps is not None and difference.distance_ulps <= NEAR_ULPS
    if near and not known.same_host:
        return Cause.HOST
    return Cause.RECORD if known.few else Cause.FILES


def _of_outcome(difference: Difference, known: Evidence) -> Cause:
    if difference.name == "policy_version":
        return Cause.POLICY
    return Cause.FOLLOWS if known.layers & {"transaction", "score"} else Cause.RECORD


def explain(
    report: Report,
    declarations: Collection[str],
    as_exported: Callable[[int], bool | None] = lambda version: None,
    same_host: Callable[[int], bool | None] = lambda version: None,
) -> None:
    """Put the likely cause beside every difference of a report, and order them by sequence number and layer.

    declarations: fingerprints under which was recomputed; as_exported, same_host: asked with a model version's number.
    """
    report.differences.sort(key=lambda each: (each.sequence, LAYERS.index(each.layer)))
    layers: dict[int, set[str]] = {}
    ways: dict[tuple[int, str], dict[str, str]] = {}
    for each in report.differences:
        layers.setdefault(each.sequence, set()).add(each.layer)
        if each.layer in {"history", "sweep"}:
            ways.setdefault((each.sequence, each.name), {})[each.layer] = each.recomputed
    both_ran = report.layers["history"].compared > 0 and report.layers["sweep"].compared > 0
    both_listed = all(report.complete(layer) for layer in ("history", "sweep"))

    def agree(each: Difference) -> bool:
        found = ways.get((each.sequence, each.name), {})
        return len(set(found.values())) == 1 and (len(found) == 2 or not (both_ran and both_listed))

    for at, each in enumerate(report.differences):
        tally = report.layers[each.layer]
        version = each.model_version
        if each.layer == "score" and version is not None:
            tally = report.by_version.get(version, tally)
        known = Evidence(
            declarations=frozenset(declarations),
            layers=frozenset(layers[each.sequence] - {each.layer}),
            ways_agree=each.layer not in {"history", "sweep"} or agree(each),
            compared=tally.compared,
            different=tally.different,
            as_exported=as_exported(version) if version is not None else None,
            same_host=same_host(version) if version is not None else None,
        )
        report.differences[at] = replace(each, cause=cause_of(each, known).value)
