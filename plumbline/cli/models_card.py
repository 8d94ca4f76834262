"""`plumbline models card`: a version's card for people, an HTML file beside the version."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from plumbline.cli.models_store import AsJson, Number


def card(
    version: Number,
    out: Annotated[Path | None, typer.Option(help="Write the page there as well.")] = None,
    models_dir: Annotated[
        Path | None, typer.Option(help="Folder of models. [default: models in the data folder]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say where a version's card lies, and hold it against its digest; exit 1 where there is none, or another."""
    from plumbline import settings
    from plumbline.errors import ModelVersionNotFound, NotFound, Refused
    from training.files import changed_files, page_file

    given = settings.load()
    folder = (models_dir or given.data_path / "models") / given.model_name / str(version)
    if not folder.is_dir():
        raise ModelVersionNotFound(f"there is no model version {version}: {folder} is not there")
    file = page_file(folder)
    if not file.is_file():
        raise NotFound(f"version {version} has no card for people: it was exported before there were any")
    listed = json.loads((folder / "assets.extra" / "plumbline.json").read_bytes()).get("files", {})
    name = file.relative_to(folder).as_posix()
    if name not in listed or changed_files(folder, {name: listed[name]}):
        raise Refused(f"{file} is not what was exported with version {version}: do not believe it")
    if out is not None:
        out.write_bytes(file.read_bytes())
    if as_json:
        print(json.dumps({"version": version, "file": str(out or file), "sha256": listed[name]}))
    else:
        print(out or file)
        print("open it in a browser: it needs nothing else", file=sys.stderr)
