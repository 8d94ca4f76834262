"""Fixtures of the model server's tests: small models, one server for all that only ask, and a client."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.client import ModelClient
from tests.serving_process import ModelServer, small_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the small models: versions 1 and 2, and their reference answers."""
    return small_models(tmp_path_factory)


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """A server of version 1 that tests may ask, and must not change."""
    base_path = tmp_path_factory.mktemp("served")
    with ModelServer(base_path, tmp_path_factory.mktemp("log") / "serve.log") as started:
        # The models are made while the server, which waits for its first version, imports TensorFlow.
        shutil.copytree(request.getfixturevalue("models") / "1", base_path / "1")
        started.wait_for("serving", 1)
        yield started


@pytest.fixture
def client(server: ModelServer) -> Iterator[ModelClient]:
    """A client of that server, with a deadline that a busy machine keeps."""
    with ModelClient(server.target, "plumbline", deadline_ms=30_000) as connected:
        yield connected
