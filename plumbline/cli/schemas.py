"""`plumbline schemas`: the JSON Schemas under docs/schemas are written from the types, and checked for staleness."""

from pathlib import Path
from typing import Annotated

import typer


def schemas(
    folder: Annotated[Path, typer.Option(help="Folder of the schemas.")] = Path("docs/schemas"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail when a file is missing or stale.")
    ] = False,
) -> None:
    """Write the JSON Schemas of the topics' records, or check that they are up to date."""
    from plumbline.errors import Refused
    from plumbline.schemas import documents

    wanted = documents()
    stale = [name for name, text in wanted.items() if not _holds(folder / name, text)]
    stale += [path.name for path in sorted(folder.glob("*.json")) if path.name not in wanted]
    if check:
        if stale:
            raise Refused(
                f"{folder}: {', '.join(stale)} differ from the types: run `plumbline schemas` and commit the change"
            )
        print(f"{len(wanted)} schemas in {folder} are up to date")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in stale:
        if name in wanted:
            (folder / name).write_text(wanted[name], encoding="utf-8")
        else:
            (folder / name).unlink()
        print(folder / name)


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
