"""`plumbline declaration`: prints the declaration of this release, of a model version, or of a file that is checked."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from features.grammar import Declaration


def declaration(
    file: Annotated[
        Path | None, typer.Argument(help="JSON file to check; this release's own declaration when not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it whole, as JSON.")] = False,
) -> None:
    """Print a feature declaration: its fingerprint, measures and features; exit 1 when a file holds none.

    To try another window, save the JSON, add a measure and its features, and give the file to `plumbline train`.
    """
    import msgspec

    from features.declaration import DECLARATION
    from features.grammar import encode

    declared = DECLARATION if file is None else read_declaration(file)
    if as_json:
        print(msgspec.json.format(encode(declared)).decode())
        return
    print(f"fingerprint {declared.fingerprint}: {len(declared.history)} measures, {len(declared.features)} features")
    for measure in declared.history:
        print(f"  {measure.name}: {measure.text_en}")


def read_declaration(file: Path) -> "Declaration":
    """The declaration in a JSON file. Raises InvalidDeclaration."""
    from features.grammar import decode
    from plumbline.errors import InvalidDeclaration

    try:
        return decode(file.read_bytes())
    except OSError as error:
        allowed = f"a readable file ({error.strerror})"
        raise InvalidDeclaration("declaration", "file", str(file), allowed) from error
