"""Compiles the decision API's messages into `app/api/decisions_pb2.py` and its types: part of `make proto`."""

from pathlib import Path
from typing import Final

from serving.compile_proto import compiled

PACKAGE: Final = Path(__file__).parent


def messages() -> dict[str, str]:
    """The generated files' texts by their names here; nothing is written. Raises Unready."""
    return compiled(PACKAGE / "decisions.proto", "app/api/decisions")


def main() -> None:
    """Write the generated files into the package."""
    for name, text in messages().items():
        (PACKAGE / name).write_text(text)


if __name__ == "__main__":
    main()
