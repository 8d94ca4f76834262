"""Fixtures of the model server's tests: small models, a server for all that only ask, another to tell, and a client."""

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


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """A server that serves nothing but what a test tells it to, with every extra switched on.

    Whoever tells it supersedes what was told before.
    """
    file = tmp_path_factory.mktemp("told") / "models.config"
    file.write_text("model_config_list {}")
    log = tmp_path_factory.mktemp("log") / "serve.log"
    more = ["--model-config-file", str(file), "--enable-grpc-healthcheck-service", "--enable-grpc-reflection"]
    more += ["--rest-api-enable-cors-support", "--enable-serialization-as-tensor-content"]
    with ModelServer(file.parent / "none", log, more=more) as started:
        yield started


@pytest.fixture
def client(server: ModelServer) -> Iterator[ModelClient]:
    """A client of that server, with a deadline that a busy machine keeps."""
    with ModelClient(server.target, "plumbline", deadline_ms=30_000) as connected:
        yield connected
