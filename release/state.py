"""The registry as a value, read from SQL: every change folded in the order in which it came."""

from collections.abc import Iterable

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from plumbline.assignment import Assignment
from release.assigning import assigned, same_effect
from release.stages import Placed, Registry
from store.model_tables import ModelChange
from store.models import changes, newest_assignment, running_experiment


def registry_of(session: Session) -> Registry:
    """The registry as its changes lead to it."""
    running = running_experiment(session)
    return fold(changes(session), "" if running is None else running.name)


def fold(changes: Iterable[ModelChange], experiment: str = "") -> Registry:
    """The registry that changes lead to; experiment: the name of the one that runs."""
    placed: dict[int, Placed] = {}
    former: list[int] = []
    for each in changes:
        placed[each.version] = Placed(each.to_stage, each.per_mille)  # type: ignore[arg-type] # SQL holds no other word
        if each.version in former and each.to_stage != "retired":
            former.remove(each.version)
        if (each.kind, each.from_stage, each.to_stage) == ("promote", "champion", "retired"):
            former.append(each.version)
    return Registry(placed, tuple(former), experiment)


def in_force(session: Session) -> Assignment | None:
    """The newest assignment that the ledger stored from the journal; None before any."""
    newest = newest_assignment(session)
    return None if newest is None or newest.body is None else msgspec.convert(newest.body, Assignment)


def last_published(session: Session) -> str:
    """The name of the assignment that the registry's newest change brought into force; empty before any."""
    newest = select(ModelChange.assignment).where(ModelChange.assignment != "").order_by(ModelChange.id.desc()).limit(1)
    return session.scalar(newest) or ""


def differs(session: Session) -> str:
    """As `differs_from`, of the newest assignment that the ledger stored."""
    return differs_from(registry_of(session), in_force(session))


def differs_from(registry: Registry, found: Assignment | None) -> str:
    """How the assignment in force differs from what the registry wishes, in one sentence; empty where they agree."""
    wish = assigned(registry, "wish")
    if wish is None:
        return "" if found is None else f"assignment {found.version} is in force, and the registry has no champion"
    if found is None:
        return f"no assignment is in force as far as SQL knows, and the registry wishes {_told(wish)}"
    if same_effect(wish, found):
        return ""
    return f"assignment {found.version} is in force ({_told(found)}), and the registry wishes {_told(wish)}"


def _told(each: Assignment) -> str:
    arms = "".join(f", {arm.version} for {arm.per_mille / 10:g} %" for arm in each.arms)
    shadows = f", shadows {', '.join(map(str, each.shadows))}" if each.shadows else ""
    return f"{each.decides} decides{arms}{shadows}"
