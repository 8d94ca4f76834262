"""`plumbline schemas`: docs/schemas, docs/reference.md and docs/declaration.md are written from the code's types."""

from pathlib import Path
from typing import Annotated

import typer


def schemas(
    docs: Annotated[Path, typer.Option(help="Folder of the documentation.")] = Path("docs"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail when a file is missing or stale.")
    ] = False,
) -> None:
    """Write the topics' JSON Schemas, the API's document, the reference and the declaration, or check them."""
    from app.api import openapi
    from features.page import page as declaration_page
    from plumbline.cli.main import VERBS
    from plumbline.errors import Refused
    from plumbline.reference import page
    from plumbline.schemas import documents

    wanted = {docs / "reference.md": page(VERBS), docs / "declaration.md": declaration_page()}
    wanted |= {docs / "schemas" / name: text for name, text in documents().items()}
    wanted[docs / "schemas" / "openapi.json"] = openapi.text()
    stale = [path for path, text in wanted.items() if not _holds(path, text)]
    stale += [path for path in sorted((docs / "schemas").glob("*.json")) if path not in wanted]
    if check:
        if stale:
            names = ", ".join(str(path.relative_to(docs)) for path in stale)
            raise Refused(f"{docs}: {names} differ from the code: run `plumbline schemas` and commit the change")
        print(f"{len(wanted)} files in {docs} are up to date")
        return
    (docs / "schemas").mkdir(parents=True, exist_ok=True)
    for path in stale:
        if path in wanted:
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
        print(path)


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
