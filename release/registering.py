"""A version's files and card become a candidate in the registry, and are held against their digests ever after.

Nothing here loads a model: what counts is which bytes they are.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sqlalchemy.orm import Session

from plumbline.errors import ModelVersionNotFound, Refused
from release.stages import registered
from release.state import registry_of
from store.model_tables import ModelVersion
from store.models import add_version
from training.files import CARD, changed_files, file_digests

SHOWN: Final = 5


def read_card(folder: Path) -> dict[str, Any]:
    """What a version says of itself. Raises ModelVersionNotFound without a folder, Refused when it says nothing."""
    if not folder.is_dir():
        raise ModelVersionNotFound(f"{folder} is not there: train a version, or bring its files")
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_bytes())
    except (OSError, ValueError) as error:
        raise Refused(f"{folder} holds no model that Plumbline exported: {CARD} cannot be read ({error})") from error
    return card


def verify(folder: Path, files: Mapping[str, str]) -> None:
    """Hold a version's files against SHA-256 digests by path. Raises Refused, which names what was changed or added."""
    if not folder.is_dir():
        raise ModelVersionNotFound(f"{folder} is not there: bring the version's files")
    changed = changed_files(folder, files)
    added = sorted(name for name in file_digests(folder) if name not in files)
    if changed or added:
        named = [*(f"{name} was changed or is gone" for name in changed), *(f"{name} was added" for name in added)]
        more = f", and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
        raise Refused(
            f"{folder} is not what was exported: {', '.join(named[:SHOWN])}{more}. It will not be served; bring the "
            "version's own files, or train another one"
        )


def register(session: Session, base: Path, number: int, *, by: str, now_us: int) -> ModelVersion:
    """Read a version's card, verify its files, and add it as a candidate; the caller commits.

    base: folder of the model's versions; by: who trained it, where the card does not say. A version that is there with
    the same files stays as it is. Raises Refused for files that are not those of the card, or of another version that
    has this number already; ModelVersionNotFound.
    """
    folder = base / str(number)
    card = read_card(folder)
    files = card.get("files")
    if not isinstance(files, dict) or not files:
        raise Refused(f"the card of {folder} lists no files: it was exported by an older release; train it anew")
    if card.get("version", number) != number:
        raise Refused(f"the card of {folder} is that of version {card['version']}: the folder was renamed or copied")
    verify(folder, files)
    known = session.get(ModelVersion, number)
    if known is not None:
        if known.files != files:
            raise Refused(
                f"version {number} was registered with other files: a number is given once; export it as another one"
            )
        return known
    registered(registry_of(session), number)
    made_by = str(card.get("made_by") or by)
    return add_version(session, _row(card, number, base.name, made_by, files, now_us), made_by)


def verify_registered(base: Path, version: ModelVersion) -> None:
    """Hold a version's files and card against what the registry keeps of it. Raises Refused, ModelVersionNotFound."""
    folder = base / str(version.version)
    verify(folder, version.files)
    if read_card(folder) != version.card:
        raise Refused(f"{folder}: {CARD} is not the card that was registered; it will not be served")


def _row(
    card: Mapping[str, Any], number: int, name: str, made_by: str, files: Mapping[str, str], now_us: int
) -> ModelVersion:
    seed = card.get("seed")
    return ModelVersion(
        version=number,
        name=str(card.get("name", name)),
        stage="candidate",
        per_mille=0,
        trained_at=int(card.get("created_at", 0)),
        registered_at=now_us,
        made_by=made_by,
        fingerprint=str(card.get("fingerprint", "")),
        train_days=str(card.get("train", "")),
        test_days=str(card.get("test", "")),
        archive_digest=str(card.get("archive_digest", "")),
        seed=seed if isinstance(seed, int) else None,
        code_commit=str(card.get("code_commit", "")),
        lock_sha256=str(card.get("lock_sha256", "")),
        rows=card.get("rows", {}),
        metrics=card.get("metrics", {}),
        slices=card.get("slices", {}),
        files=dict(files),
        gate=card.get("gate"),
        card=dict(card),
    )
