"""The steps of a night with effects outside it: the version gets a number and a row in the registry, then the shadow.

Both may be done again: a version is known by the run in its card and by the digest of its fit, and the registry carries
a request out once.
"""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from plumbline.errors import ModelVersionNotFound, Refused
from release import nights
from release.registering import read_card
from release.registering import register as registered
from release.state import registry_of
from retrain.archived import windows
from retrain.manifest import digest_of, file_outputs
from retrain.modelled import CANDIDATE, CHAMPION, GATE, MODEL, REFERENCE
from retrain.scored import read_scored
from retrain.steps import Done, Place
from store.engine import transaction
from store.models import NIGHT, set_gate

if TYPE_CHECKING:
    from retrain.night import Night

SCRATCH: Final = ".retraining"


def register(night: "Night", place: Place) -> Done:
    """Publish the candidate as the next version, and add it to the registry with what the gate said."""
    night.load()
    fitted = digest_of(file_outputs(place.of("fit")))
    folder = _published(night.models, place.run.name, fitted) or _publish(night, place, fitted)
    number = int(folder.name)
    gate = msgspec.json.decode((place.of("gate") / GATE).read_bytes())
    with transaction(night.engine) as session:
        registered(session, night.models, number, by=NIGHT, now_us=place.started_at)
        set_gate(session, number, gate)
    (place.folder / "version.json").write_bytes(msgspec.json.encode({"version": number, "fit": fitted}))
    return Done(1, {"folder": str(folder)}, version=number, shared=(folder / "assets.extra" / "plumbline.json",))


def _published(models: Path, run: str, fitted: str) -> Path | None:
    """The version that this run published before it was killed."""
    for folder in sorted((each for each in models.glob("*") if each.name.isdigit()), key=lambda each: -int(each.name)):
        try:
            card = read_card(folder)
        except (Refused, ModelVersionNotFound):
            continue  # of another training, which answers for it
        if (card.get("run"), card.get("fit_sha256")) == (run, fitted):
            return folder
    return None


def _publish(night: "Night", place: Place, fitted: str) -> Path:
    from plumbline.policy import Policy
    from training.card_page import page_of
    from training.costs import Costs, choose, spent
    from training.dataset import row_batches
    from training.export import publish
    from training.metrics import measure
    from training.slices import slices
    from training.warmup import ROWS_MAX

    plan, declaration, days = night.plan, night.declaration, windows(night, place)
    night.models.mkdir(parents=True, exist_ok=True)
    scratch = night.models / SCRATCH  # on the disk of the versions; the lock keeps it ours
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        folder = scratch / MODEL
        shutil.copytree(place.of("fit") / MODEL, folder)
        shutil.copytree(place.of("evaluate") / REFERENCE, folder, dirs_exist_ok=True)
        scored = read_scored(place.of("evaluate") / CANDIDATE)
        costs = msgspec.convert(plan.costs, Costs)
        thresholds = choose(scored, costs)
        policy = Policy(
            version=f"suggested-{place.run.name}",
            review_at=thresholds.review_at,
            decline_at=thresholds.decline_at,
        )
        batches = row_batches(place.of("rows") / "train.parquet", declaration, ROWS_MAX)
        first, _ = next(batches)
        card = _card(night, place, fitted, measure(scored), slices(scored), policy, str(days.train), str(days.test))
        money = spent(scored, thresholds, costs)
        card["costs"] = {"assumed": plan.costs, "spent": {**asdict(money), "cost_minor": money.cost_minor}}
        beside = place.of("evaluate") / CHAMPION
        page = page_of(scored, thresholds, costs, read_scored(beside) if beside.is_file() else None)
        return publish(folder, night.models, card, policy, declaration, first, page)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _card(
    night: "Night", place: Place, fitted: str, metrics: Any, parts: Any, policy: Any, train: str, test: str
) -> dict[str, Any]:
    import tensorflow as tf

    from retrain.manifest import read_step

    plan, declaration = night.plan, night.declaration
    records = {name: read_step(place.of(name)) for name in ("archive", "labels", "rows", "fit", "evaluate")}
    facts = {name: each.facts for name, each in records.items() if each is not None}
    return {
        "name": night.models.name,
        "created_at": place.started_at,
        "run": place.run.name,
        "fit_sha256": fitted,
        "cut_off": plan.cut_off_us,
        "archive_digest": facts["archive"].get("archive_digest", ""),
        "journal_digest": facts["archive"].get("journal_digest", ""),
        "train": train,
        "delay_days": plan.delay_days,
        "test": test,
        "rows": {"train": facts["rows"]["rows_train"], "test": facts["rows"]["rows_test"]},
        "labels": facts["labels"],
        "seed": plan.seed,
        "epochs": facts["fit"]["epochs"],
        "weights_sha256": facts["fit"]["weights_sha256"],
        "metrics": dict(metrics),
        "slices": parts,
        "gate": msgspec.json.decode((place.of("gate") / GATE).read_bytes()),
        "policy": {"review_at": policy.review_at, "decline_at": policy.decline_at},
        "feature_names": list(declaration.feature_names),
        "history_names": list(declaration.history_names),
        "tensorflow": tf.__version__,
        **night.made,
    }


def shadow(night: "Night", place: Place) -> Done:
    """Bring the candidate into the shadow, by the registry's rules; where they do not allow it, people go on."""
    version = int(msgspec.json.decode((place.of("register") / "version.json").read_bytes())["version"])
    if night.carry_out is None:
        return _left(place, version, "bringing it into the shadow is left to people: this night was asked not to")
    with transaction(night.engine) as session:
        champion = registry_of(session).champion
        stage = registry_of(session).of(version).stage
    if champion is None:
        return _left(
            place, version,
            f"there is no champion yet: `plumbline models promote {version} --to champion`, by two people",
        )  # fmt: skip
    if stage != "candidate":
        return Done(1, {"stage": stage}, ends="shadowed" if stage != "retired" else "registered", version=version)
    try:
        evidence = _carried_out(night, place, version)
    except Refused as error:
        return _left(place, version, str(error))
    return Done(1, {"champion": champion, "parity": evidence.get("parity", [])}, ends="shadowed", version=version)


def _carried_out(night: "Night", place: Place, version: int) -> dict[str, Any]:
    assert night.carry_out is not None
    done = 0

    def tell(step: str) -> None:
        nonlocal done
        done += 1
        place.tell(done, 0)

    with transaction(night.engine) as session:
        room = nights.ask_to_make_room(session, version, now_us=night.now_us())
        number = None if room is None else room.id
    if number is not None:
        night.carry_out(number, tell)
    with transaction(night.engine) as session:
        asked = nights.ask_for_shadow(
            session, version, why=f"night {place.run.name}: the gate let it through", now_us=night.now_us()
        )
        number = asked.id
    return dict(night.carry_out(number, tell))


def _left(place: Place, version: int, why: str) -> Done:
    return Done(1, {"version": version}, ends="registered", why=why, version=version)
