"""Model versions as the audit asks them: loaded from their files in this process, and judged by their cards."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from features.history import Integers
from plumbline.errors import ModelVersionNotFound, Refused
from plumbline.transaction import Transaction
from serving.columns import NAMES
from streaming.batch import model_columns
from training.evaluate import Loaded, load_version
from training.files import card_of, changed_files
from training.host import host_facts


class Versions:
    """Model versions by number, loaded from their files when first asked for."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._loaded: dict[int, Loaded] = {}

    def loaded(self, version: int) -> Loaded:
        """The version in this process; raises ModelVersionNotFound, or FingerprintMismatch for another declaration."""
        if version not in self._loaded:
            folder = self._base / str(version)
            if not folder.is_dir():
                raise ModelVersionNotFound(
                    f"model version {version} scored decisions of this range, but {folder} is not there: "
                    "bring its files"
                )
            self._loaded[version] = load_version(folder)
        return self._loaded[version]

    def card(self, version: int) -> dict[str, Any]:
        """What a version says of itself; empty where its files are gone or say nothing."""
        try:
            return card_of(self._base / str(version))
        except Refused:
            return {}

    @functools.cache  # noqa: B019 - a version's files are read once an audit
    def changed(self, version: int) -> tuple[str, ...] | None:
        """The files of a version that are not those its card lists; None when the card lists none."""
        listed = self.card(version).get("files")
        return tuple(changed_files(self._base / str(version), listed)) if isinstance(listed, dict) else None

    def as_exported(self, version: int) -> bool | None:
        """Whether a version's files are those that its card lists; None when it lists none."""
        changed = self.changed(version)
        return None if changed is None else not changed

    def same_host(self, version: int) -> bool | None:
        """Whether this machine is of the kind that exported the version; None when its card does not say."""
        said = self.card(version).get("host")
        return said == host_facts() if isinstance(said, dict) else None


def inputs(transactions: Sequence[Transaction], history: Integers) -> dict[str, Any]:
    """The model's inputs, as the scorer would send them."""
    columns = model_columns(transactions, history)
    return {
        name: column if isinstance(column := getattr(columns, name), np.ndarray) else np.array(column, object)
        for name in NAMES
    }
