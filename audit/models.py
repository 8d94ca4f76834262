"""Model versions as the audit asks them: loaded from their files in this process, and judged by their cards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from features.history import Integers
from plumbline.errors import ModelVersionNotFound
from plumbline.transaction import Transaction
from serving.columns import NAMES
from streaming.batch import model_columns
from training.evaluate import Loaded, load_version


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


def inputs(transactions: Sequence[Transaction], history: Integers) -> dict[str, Any]:
    """The model's inputs, as the scorer would send them."""
    columns = model_columns(transactions, history)
    return {
        name: column if isinstance(column := getattr(columns, name), np.ndarray) else np.array(column, object)
        for name in NAMES
    }
