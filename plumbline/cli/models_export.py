"""`plumbline models export`: a version in another format, checked against the SavedModel before it is written."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from features.grammar import Declaration

ROWS = 10_000


def export(
    version: Annotated[int, typer.Argument(min=1, help="Number of the version.")],
    litert: Annotated[bool, typer.Option("--litert", help="As a LiteRT file of the whole scoring signature.")] = False,
    out: Annotated[Path | None, typer.Option(help="File to write. [default: NAME-VERSION.tflite, here]")] = None,
    archive: Annotated[
        Path | None, typer.Option(help="Archive whose newest rows try it; simulated if not given.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="On how many rows the file is tried.")] = ROWS,
    models_dir: Annotated[
        Path | None, typer.Option(help="Folder of models. [default: models in the data folder]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a version in another format; exit 1 when its scores are too far from the version's own."""
    from plumbline import settings
    from plumbline.cli.quiet import import_tensorflow_quietly
    from plumbline.errors import InvalidSetting, ModelVersionNotFound

    given = settings.load()
    if not litert:
        raise InvalidSetting("models export", "format", None, "--litert")
    folder = (models_dir or given.data_path / "models") / given.model_name / str(version)
    if not folder.is_dir():
        raise ModelVersionNotFound(f"there is no model version {version}: {folder} is not there")
    import_tensorflow_quietly()
    from training.evaluate import load_version
    from training.litert import DISTANCE_MOST
    from training.litert import export as write

    model = load_version(folder)
    file = out or Path(f"{given.model_name}-{version}.tflite")
    done = write(model, _columns(archive, rows, model.declaration), file, DISTANCE_MOST)
    if as_json:
        facts: dict[str, Any] = {**asdict(done), "file": str(done.file), "version": version}
        print(json.dumps({**facts, "fingerprint": model.declaration.fingerprint, "distance_most": DISTANCE_MOST}))
        return
    print(f"version {version} of {given.model_name} as LiteRT: {done.file}, {done.file_bytes:,} bytes")
    print(f"tried on {done.rows:,} rows: no score is farther from the SavedModel's than {done.distance:.3g} "
          f"(allowed {DISTANCE_MOST:g}); {done.different:,} are not the same bits")  # fmt: skip


def _columns(archive: Path | None, rows: int, declaration: "Declaration") -> Any:
    """Raw inputs of the newest rows of an archive, or of a simulated bank."""
    from archive.layout import open_archive
    from archive.simulation.run import Plan, simulate
    from training.tail import newest_rows

    if archive is not None:
        return newest_rows(open_archive(archive), rows, declaration)
    with tempfile.TemporaryDirectory(prefix="plumbline-export-") as folder:
        bank = simulate(Plan(accounts=max(10, rows // 15), days=60), Path(folder) / "archive")
        return newest_rows(bank, rows, declaration)
