"""Configuration files in protobuf's text format, as TensorFlow Serving takes them."""

from pathlib import Path
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from plumbline.errors import Invalid

M = TypeVar("M", bound=Message)


def read(path: Path | None, kind: type[M]) -> M:
    """The message in a text file, an empty one where there is no path.

    Raises Invalid when the file cannot be read, or says something else.
    """
    if path is None:
        return kind()
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), kind())
    except OSError as error:
        raise Invalid("configuration", "file", str(path), f"a readable file ({error.strerror})") from error
    except (UnicodeDecodeError, text_format.ParseError) as error:
        raise Invalid("configuration", "file", str(path), f"a {kind.DESCRIPTOR.name} as text ({error})") from error
