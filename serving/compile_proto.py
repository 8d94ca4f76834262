"""Compiles the protocol's messages into `serving/wire_pb2.py` and its types: `make proto`.

grpc_tools runs in a process of its own: only a developer's environment has it, and the protobuf library inside it and
the one inside TensorFlow end a process that holds both with a segmentation fault.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from plumbline.errors import Unready

PACKAGE = Path(__file__).parent
SOURCE = PACKAGE / "protos" / "tensorflow_serving.proto"
NOTES = {
    "_pb2.py": "# Made by `make proto`; do not edit.\n",
    "_pb2.pyi": '# mypy: disable-error-code="type-arg"\n# Made by `make proto`; do not edit.\n',
}


def compiled(source: Path = SOURCE, module: str = "serving/wire") -> dict[str, str]:
    """The generated files' texts by their names in the module's folder; nothing is written.

    module: path of the generated module without `_pb2.py`, from the root. Raises Unready when it does not compile.
    """
    with tempfile.TemporaryDirectory() as folder:
        # A generated module is named after its source, so protoc gets a copy at the module's own path.
        copy = Path(folder, f"{module}.proto")
        copy.parent.mkdir(parents=True)
        copy.write_bytes(source.read_bytes())
        arguments = [f"-I{folder}", f"--python_out={folder}", f"--pyi_out={folder}", str(copy)]
        if subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=False).returncode:
            raise Unready(f"{source.name} does not compile: mend what is named above; `make venv` installs protoc")
        made = {copy.stem + end: note for end, note in NOTES.items()}
        return {name: note + copy.with_name(name).read_text() for name, note in made.items()}


def main() -> None:
    """Write the generated files into the package."""
    for name, text in compiled().items():
        (PACKAGE / name).write_text(text)


if __name__ == "__main__":
    main()
