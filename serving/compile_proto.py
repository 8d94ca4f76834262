"""Compiles the protocol's messages into `serving/wire_pb2.py` and its types: `make proto`.

grpc_tools is imported inside, since only a developer's environment has it.
"""

import tempfile
from importlib.resources import as_file, files
from pathlib import Path

from plumbline.errors import Unready

PACKAGE = Path(__file__).parent
SOURCE = PACKAGE / "protos" / "tensorflow_serving.proto"
NOTES = {
    "wire_pb2.py": "# Made by `make proto`; do not edit.\n",
    "wire_pb2.pyi": '# mypy: disable-error-code="type-arg"\n# Made by `make proto`; do not edit.\n',
}


def compiled() -> dict[str, str]:
    """The generated files' texts by their names in `serving/`; nothing is written.

    Raises Unready when the source does not compile.
    """
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder, as_file(files("grpc_tools") / "_proto") as well_known:
        # A generated module is named after its source, so protoc gets a copy at the module's own path.
        copy = Path(folder, "serving", "wire.proto")
        copy.parent.mkdir()
        copy.write_bytes(SOURCE.read_bytes())
        arguments = [f"-I{folder}", f"-I{well_known}", f"--python_out={folder}", f"--pyi_out={folder}", str(copy)]
        if protoc.main(["protoc", *arguments]) != 0:
            raise Unready(f"{SOURCE.name} does not compile: mend the lines that protoc names above")
        return {name: note + copy.with_name(name).read_text() for name, note in NOTES.items()}


def main() -> None:
    """Write the generated files into the package."""
    for name, text in compiled().items():
        (PACKAGE / name).write_text(text)


if __name__ == "__main__":
    main()
