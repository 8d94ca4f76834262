"""A registry with people, and a real exported model whose files may be changed."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from plumbline.settings import Settings
from store.engine import open_engine, transaction
from store.people import ROLES
from store.schema import migrate
from store.users import add_user
from tests.declared_model import declared_models

PEOPLE = {"ada": "engineer", "bob": "supervisor", "cy": "analyst", "eve": "engineer"}


def add_people(engine: sa.Engine) -> None:
    """Ada and Eve are engineers, Bob a supervisor, Cy an analyst."""
    with transaction(engine) as session:
        for number, (name, role) in enumerate(PEOPLE.items()):
            assert role in ROLES
            add_user(
                session, email=f"{name}@bank.example", name=name.title(), roles=[role], password_hash="none",
                uniquifier=f"{number:032d}",
            )  # fmt: skip


@pytest.fixture
def base(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of model versions with a copy of one that was really exported, as version 1."""
    folder = tmp_path / "data" / "models" / "plumbline"
    folder.mkdir(parents=True)
    shutil.copytree(declared_models(tmp_path_factory) / "1", folder / "1")
    return folder


@pytest.fixture
def another(base: Path) -> Callable[..., Path]:
    """A function that adds a version with the same graph and more in its card; digests are those of its files."""

    def add(number: int, **facts: Any) -> Path:
        folder = base / str(number)
        shutil.copytree(base / "1", folder)
        card = folder / "assets.extra" / "plumbline.json"
        card.write_text(json.dumps({**json.loads(card.read_text()), "version": number, **facts}))
        return folder

    return add


@pytest.fixture
def installed(base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.Engine]:
    """The store of an installation in the folder of `base`, with its people, as the command line finds it too."""
    monkeypatch.setenv("PLUMBLINE_DATA_DIR", str(base.parents[1]))
    engine = open_engine(Settings(data_dir=str(base.parents[1])))
    migrate(engine)
    add_people(engine)
    yield engine
    engine.dispose()
