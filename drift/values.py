"""Feature values by the very version that scored: from the model server, or from the version's files loaded here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import structlog

from plumbline.errors import ModelUnavailable, ModelVersionNotFound
from serving.client import ModelClient
from serving.columns import NAMES, ModelColumns

log = structlog.get_logger()

Values = Mapping[str, npt.NDArray[Any]]

ROWS_A_CALL: Final = 1024
AVAILABLE: Final = "AVAILABLE"


class Transform(Protocol):
    """Gives features by name for the rows of a model version."""

    def __call__(self, columns: ModelColumns, names: Sequence[str], version: int) -> Values:
        """Values [n] of each name, float32 or int64."""


class FromFiles:
    """The versions' own files, loaded in this process when first asked for; needs TensorFlow."""

    def __init__(self, models: Path) -> None:
        self._models = models
        self._loaded: dict[int, Any] = {}

    def __call__(self, columns: ModelColumns, names: Sequence[str], version: int) -> Values:
        """Raises ModelVersionNotFound when the folder does not have the version."""
        if version not in self._loaded:
            self._loaded[version] = self._load(version)
        inputs = {
            name: column if isinstance(column := getattr(columns, name), np.ndarray) else np.array(column, object)
            for name in NAMES
        }
        found: Values = self._loaded[version].call("transform", inputs)
        return {name: found[name] for name in names}

    def _load(self, version: int) -> Any:
        folder = self._models / str(version)
        if not folder.is_dir():
            raise ModelVersionNotFound(
                f"model version {version} scored decisions of this window, but {folder} is not there: bring its files"
            )
        try:
            from training.evaluate import load_version
        except ModuleNotFoundError as error:  # an installation without the `model` extra
            raise ModelVersionNotFound(
                f"model version {version} is not served any more, and this installation lacks {error.name} to load it"
            ) from error
        try:
            return load_version(folder)
        except OSError as error:
            raise ModelVersionNotFound(f"model version {version} cannot be loaded from {folder}: {error}") from error


class Served:
    """The model server's `transform` signature, without TensorFlow; a version that is no longer served is loaded."""

    def __init__(self, client: ModelClient, models: Path) -> None:
        self._client = client
        self._files = FromFiles(models)
        self._unserved: set[int] = set()

    def __call__(self, columns: ModelColumns, names: Sequence[str], version: int) -> Values:
        """Raises ModelUnavailable when the server cannot be reached or fails, ModelVersionNotFound as FromFiles."""
        if version not in self._unserved:
            try:
                return self._client.transform(columns, names, version)
            except ModelUnavailable as error:
                if self._client.states().get(version) == AVAILABLE:
                    raise
                log.info("the version is not served: its files are loaded", model_version=version, reason=str(error))
                self._unserved.add(version)
        return self._files(columns, names, version)
