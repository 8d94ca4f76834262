"""The stages of a model version, and which changes of them are lawful: pure functions of the registry as a value.

    candidate -> shadow -> canary -> champion -> retired

Nothing skips shadow or canary, but for the first champion of all. There is one champion, at most four shadows, and one
canary; an experiment has several arms, whose shares stay as they are until it is stopped. A rollback takes a canary's
accounts away, or brings the champion before this one back; it is lawful at any time.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from plumbline.assignment import PER_MILLE
from plumbline.errors import ModelVersionNotFound, Refused

Stage = Literal["candidate", "shadow", "canary", "champion", "retired"]

SHADOWS_MOST: Final = 4
ARMS_MOST: Final = 4
CANARY_FIRST: Final = 10
"""Accounts of every thousand that a canary has where nothing else is said: 1 %."""

NEXT: Final[dict[Stage, tuple[Stage, ...]]] = {
    "candidate": ("shadow", "retired"),
    "shadow": ("canary", "retired"),
    "canary": ("canary", "champion", "retired"),
    "champion": (),
    "retired": ("shadow",),
}
"""Where a promotion may lead from each stage; canary to canary is another share."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A version's stage, and how many of every thousand accounts it decides for as a canary or an arm."""

    stage: Stage
    per_mille: int = 0


@dataclass(frozen=True, slots=True)
class Registry:
    """Every version's place; former: champions of the past to which a rollback may return, the newest last.

    experiment: the name of the one that runs, whose arms are the versions at stage canary; empty without one.
    """

    placed: Mapping[int, Placed] = field(default_factory=dict)
    former: tuple[int, ...] = ()
    experiment: str = ""

    def at(self, stage: Stage) -> list[int]:
        """Versions at a stage, lowest first."""
        return sorted(version for version, each in self.placed.items() if each.stage == stage)

    @property
    def champion(self) -> int | None:
        """The version that decides wherever no arm does; None before the first."""
        return next(iter(self.at("champion")), None)

    def of(self, version: int) -> Placed:
        """A version's place. Raises ModelVersionNotFound."""
        if version not in self.placed:
            known = ", ".join(map(str, sorted(self.placed))) or "none"
            raise ModelVersionNotFound(f"the registry has no version {version} (it has {known}): register it first")
        return self.placed[version]


@dataclass(frozen=True, slots=True)
class Move:
    """One version's change of place; `before` is None when it is registered."""

    version: int
    before: Placed | None
    after: Placed


def registered(registry: Registry, version: int) -> Registry:
    """With a new candidate. Raises Refused when the version is there already."""
    if version in registry.placed:
        raise Refused(f"version {version} is registered already: `plumbline models show {version}`")
    return _moved(registry, {version: Placed("candidate")})


def promoted(registry: Registry, version: int, to: Stage, per_mille: int = 0) -> Registry:
    """With a version at the stage asked for; a champion that it replaces retires, and can be rolled back to.

    per_mille: of a canary, 1 to 1000. Raises Refused, ModelVersionNotFound.
    """
    stage = registry.of(version).stage
    first = registry.champion is None
    if to not in NEXT[stage] and not (first and (stage, to) == ("candidate", "champion")):
        may = ", ".join(NEXT[stage]) or "nothing: promote another version, or roll this one back"
        raise Refused(f"version {version} is {stage}, and cannot become {to}: expected {may}{_first(first, stage)}")
    if registry.experiment and "canary" in (stage, to):
        raise Refused(
            f"experiment {registry.experiment} runs, and its shares are fixed: stop it before version {version} "
            f"becomes {to}"
        )
    if first and to != "champion" and to != "retired":
        raise Refused(f"version {version} cannot become {to} beside no champion: promote the first one to champion")
    if (to == "canary") != (1 <= per_mille <= PER_MILLE):
        raise Refused(f"the share of version {version} as {to} is {per_mille} of every thousand accounts: expected "
                      + ("1 to 1000" if to == "canary" else "none"))  # fmt: skip
    if to == "canary" and (others := set(registry.at("canary")) - {version}):
        raise Refused(f"version {min(others)} is the canary: promote it, retire it or roll it back first")
    if to == "shadow" and len(registry.at("shadow")) >= SHADOWS_MOST:
        raise Refused(f"versions {registry.at('shadow')} are shadows, {SHADOWS_MOST} at most: retire one first")
    moves = {version: Placed(to, per_mille)}
    former = tuple(each for each in registry.former if each != version)
    if to == "champion" and registry.champion is not None:
        moves[registry.champion] = Placed("retired")
        former = (*former, registry.champion)
    return replace(_moved(registry, moves), former=former)


def rolled_back(registry: Registry, version: int | None = None) -> Registry:
    """Without a canary's or an arm's say, or with the champion of before; lawful at any time.

    version: a canary, an arm or the champion; None: the canary or all arms, or else the champion. Rolling back one arm
    ends its experiment, since the other shares may not grow.
    Raises Refused when there is nothing to roll back, or no champion to return to.
    """
    canaries = registry.at("canary")
    if version is None:
        version = canaries[0] if canaries else registry.champion
    if version is None:
        raise Refused("there is no champion yet, and so nothing to roll back")
    stage = registry.of(version).stage
    if stage == "canary":
        gone = canaries if registry.experiment else [version]
        return replace(_moved(registry, dict.fromkeys(gone, Placed("retired"))), experiment="")
    if stage != "champion":
        raise Refused(f"version {version} is {stage} and decides nothing: expected a canary, an arm or the champion")
    if not registry.former:
        raise Refused(f"version {version} is the first champion: there is none before it to return to")
    *older, back = registry.former
    moves = {version: Placed("retired"), back: Placed("champion")}
    return replace(_moved(registry, moves), former=tuple(older))


def taken_out(registry: Registry, versions: Collection[int]) -> Registry:
    """Without faulty arms and shadows, as the guard takes them out; an experiment ends when an arm of it goes.

    A version that is neither any more stays where it is.
    """
    for version in sorted(set(versions) & set(registry.at("canary"))):
        if registry.of(version).stage == "canary":
            registry = rolled_back(registry, version)
    shadows = set(versions) & set(registry.at("shadow"))
    return _moved(registry, dict.fromkeys(shadows, Placed("retired")))


def experimenting(registry: Registry, name: str, arms: Mapping[int, int]) -> Registry:
    """With an experiment of shadows; arms: accounts of every thousand by version. Raises Refused."""
    if registry.experiment:
        raise Refused(f"experiment {registry.experiment} runs: stop it before another one")
    if registry.champion is None:
        raise Refused("an experiment compares with the champion, and there is none: promote the first one")
    if not 1 <= len(arms) <= ARMS_MOST or min(arms.values()) < 1 or sum(arms.values()) >= PER_MILLE:
        raise Refused(
            f"arms are {dict(arms)}: expected 1 to {ARMS_MOST}, with 1 to {PER_MILLE - 1} of every thousand "
            "accounts in all, so that the champion keeps some"
        )
    if others := set(registry.at("canary")) - arms.keys():
        raise Refused(f"version {min(others)} is a canary: promote it, retire it or roll it back first")
    for version in arms:
        if registry.of(version).stage not in {"shadow", "canary"}:
            raise Refused(f"arm {version} is {registry.of(version).stage}: expected a shadow or the canary")
    moves = {version: Placed("canary", share) for version, share in arms.items()}
    return replace(_moved(registry, moves), experiment=name)


def experiment_stopped(registry: Registry, winner: int | None) -> Registry:
    """Without the experiment: its winner goes on as the canary with its share, every other arm retires.

    Raises Refused when none runs, or the winner is no arm (the champion wins by None).
    """
    if not registry.experiment:
        raise Refused("no experiment runs")
    arms = registry.at("canary")
    if winner is not None and winner not in arms:
        raise Refused(f"the winner is {winner}: expected one of the arms {arms}, or none for the champion")
    moves = {version: Placed("retired") for version in arms if version != winner}
    return replace(_moved(registry, moves), experiment="")


def moves(before: Registry, after: Registry) -> list[Move]:
    """What differs between two registries, by version."""
    return [
        Move(version, before.placed.get(version), after.placed[version])
        for version in sorted(after.placed)
        if before.placed.get(version) != after.placed[version]
    ]


def faults(registry: Registry) -> list[str]:
    """What is unlawful about a registry, in words; empty of every one that these functions can reach."""
    shadows, canaries, champions = (registry.at(stage) for stage in ("shadow", "canary", "champion"))
    shares = [registry.placed[version].per_mille for version in canaries]
    others = [each.per_mille for each in registry.placed.values() if each.stage != "canary"]
    most = ARMS_MOST if registry.experiment else 1
    checks = {
        "more than one champion": len(champions) > 1,
        "more than four shadows": len(shadows) > SHADOWS_MOST,
        "too many canaries or arms": len(canaries) > most,
        "an experiment without arms": bool(registry.experiment) and not canaries,
        "a shadow or canary beside no champion": not champions and bool(shadows or canaries),
        "an arm without a share": any(share < 1 for share in shares),
        "arms with more than all accounts": sum(shares) > PER_MILLE,
        "a share of a version that is no arm": any(others),
        "a former champion that is not retired": not {*registry.former} <= {*registry.at("retired")},
        "a former champion twice": len(set(registry.former)) != len(registry.former),
    }  # fmt: skip
    return [name for name, found in checks.items() if found]


def _moved(registry: Registry, moves: Mapping[int, Placed]) -> Registry:
    return replace(registry, placed={**registry.placed, **moves})


def _first(first: bool, stage: Stage) -> str:
    return ", or champion, as there is none yet" if first and stage == "candidate" else ""
