"""What the registry wishes the scorer to do, as an assignment: the same registry always gives the same one."""

from collections.abc import Collection

from msgspec import UNSET

from plumbline.assignment import READY_MOST, Arm, Assignment
from release.stages import Registry


def assigned(
    registry: Registry, name: str, why: str = "", replaces: str = "", folded: Collection[int] = ()
) -> Assignment | None:
    """The assignment of a registry's stages and shares; None before the first champion.

    name: of the assignment; why, replaces: as in `plumbline.assignment`; folded: the versions of the active assignment,
    under whose declarations history goes on now: former champions among them are kept ready for a rollback.
    A canary's accounts are dealt by its own number, so that they stay with it while its share grows, and the next
    canary meets others; an experiment's by its name.
    """
    if registry.champion is None:
        return None
    arms = tuple(Arm(version, registry.placed[version].per_mille) for version in registry.at("canary"))
    salt = registry.experiment or (f"canary-{arms[0].version}" if arms else "")
    return Assignment(
        version=name,
        decides=registry.champion,
        shadows=tuple(registry.at("shadow")),
        arms=arms,
        kind="experiment" if registry.experiment else "canary",
        salt=salt,
        why=why[:500],
        replaces=replaces,
        ready=tuple(each for each in registry.former if each in folded)[-READY_MOST:] or UNSET,
    )


def same_effect(one: Assignment, other: Assignment) -> bool:
    """Whether two assignments have the same versions answer for the same accounts, whatever they are called."""
    routed = [(each.arms, each.kind, each.salt) if each.arms else () for each in (one, other)]
    return (one.decides, set(one.shadows), routed[0]) == (other.decides, set(other.shadows), routed[1])
