"""The files of a model version, by their digests: anybody can tell whether they are those that were exported."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from archive.manifest import file_sha256
from features.grammar import Declaration, decode
from plumbline.errors import FingerprintMismatch, InvalidDeclaration, Refused

EXTRA: Final = "assets.extra"
DECLARATION_FILE: Final = "assets.extra/declaration.json"
CARD: Final = "assets.extra/plumbline.json"
"""The card lists the others, and so cannot list itself."""

PAGE: Final = "assets.extra/card.html"
"""The card for people; see `training.card_page`."""


def page_file(folder: Path) -> Path:
    """Where a version's card for people lies."""
    return folder / PAGE


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a version but its card, by path within its folder."""
    files = {each.relative_to(folder).as_posix(): each for each in sorted(folder.rglob("*")) if each.is_file()}
    return {name: file_sha256(file) for name, file in files.items() if name != CARD}


def changed_files(folder: Path, listed: Mapping[str, str]) -> list[str]:
    """The listed files that are gone or have another digest."""
    return sorted(
        name for name, sha256 in listed.items() if not (folder / name).is_file() or file_sha256(folder / name) != sha256
    )


def newest_version(base: Path) -> int | None:
    """The highest number of a version under a base path; None where there is none."""
    numbers = [int(each.name) for each in base.iterdir() if each.name.isdigit()] if base.is_dir() else []
    return max(numbers, default=None)


def card_of(folder: Path) -> dict[str, Any]:
    """What a version says of itself. Raises Refused when it says nothing."""
    file = folder / CARD
    try:
        card: dict[str, Any] = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise Refused(
            f"{folder} holds no model that Plumbline exported: {file.name} cannot be read ({error})"
        ) from error
    return card


def declaration_of(folder: Path) -> Declaration:
    """The declaration that a version was trained under.

    Raises Refused when it does not say, FingerprintMismatch when its files are not of one model.
    """
    file = folder / DECLARATION_FILE
    try:
        declaration = decode(file.read_bytes())
    except (OSError, InvalidDeclaration) as error:
        raise Refused(f"{folder} does not say what it was trained under: {file.name}: {error}") from error
    if (said := str(card_of(folder).get("fingerprint"))) != declaration.fingerprint:
        remedy = "the files of two models lie in one folder; export it anew"
        raise FingerprintMismatch(f"model {folder}", said, declaration.fingerprint, remedy)
    return declaration
