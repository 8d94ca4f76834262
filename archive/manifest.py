"""What an archive holds, as data: its columns, its manifest, and the digest that stands for all its bytes.

The digest is the SHA-256 of `SHA256SUMS`, a file that lists every Parquet file by path with its own SHA-256, in the
format that the `sha256sum` tool writes; so anyone can check an archive with `sha256sum --check` and no code of ours.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Final

import msgspec
import pyarrow as pa
from msgspec import Meta

from plumbline.errors import InvalidArchive

FORMAT: Final = 2
MANIFEST_NAME: Final = "archive.json"
SUMS_NAME: Final = "SHA256SUMS"
PARTS: Final = ("labels", "transactions")

TRANSACTION_SCHEMA: Final = pa.schema(
    [
        pa.field("transaction_id", pa.string()),
        pa.field("occurred_at", pa.int64()),
        pa.field("account_id", pa.string()),
        pa.field("merchant_id", pa.string()),
        pa.field("device_id", pa.string()),
        pa.field("amount_minor", pa.int64()),
        pa.field("currency", pa.string()),
        pa.field("channel", pa.string()),
        pa.field("mcc", pa.string()),
        pa.field("country", pa.string()),
        pa.field("latitude_e6", pa.int32()),
        pa.field("longitude_e6", pa.int32()),
    ]
)
"""Transactions as a writer gives them: the fields of `plumbline.transaction.Transaction`, in its order."""

LABEL_SCHEMA: Final = pa.schema(
    [
        pa.field("label_id", pa.string()),
        pa.field("transaction_id", pa.string()),
        pa.field("account_id", pa.string()),
        pa.field("merchant_id", pa.string()),
        pa.field("verdict", pa.string()),
        pa.field("source", pa.string()),
        pa.field("known_at", pa.int64()),
        pa.field("note", pa.string()),
    ]
)
"""Labels as a writer gives them; account and merchant are those of the labelled transaction."""

_SEQUENCE = pa.field("sequence", pa.int64())
STORED_SCHEMA: Final = {
    "transactions": pa.schema([_SEQUENCE, *TRANSACTION_SCHEMA]),
    "labels": pa.schema([_SEQUENCE, *LABEL_SCHEMA, pa.field("occurred_at", pa.int64())]),
}
"""Both tables as they are stored: the arrival order comes first, and a label has its transaction's time."""

ARRIVAL: Final = {"transactions": "occurred_at", "labels": "known_at"}
"""The column that says when a row of each table arrived, microseconds since 1970 UTC."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `archive.json` says about an archive; times are microseconds since 1970 UTC, None when it is empty."""

    format: int
    source: str
    rows: Annotated[int, Meta(ge=0)]
    labels: Annotated[int, Meta(ge=0)]
    first_occurred_at: int | None
    last_occurred_at: int | None
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `archive.json`: JSON in a fixed order, with indents, so that equal archives are equal files."""
    raw = msgspec.json.encode(manifest)
    (folder / MANIFEST_NAME).write_bytes(msgspec.json.format(raw, indent=2) + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the archive in a folder; raises InvalidArchive when it is absent, broken or of another format."""
    try:
        raw = (folder / MANIFEST_NAME).read_bytes()
    except OSError as error:
        allowed = f"a folder with a readable {MANIFEST_NAME} ({error.strerror}); make one with `plumbline import`"
        raise InvalidArchive("archive", "folder", str(folder), f"{allowed} or `plumbline simulate`") from error
    try:
        found = msgspec.json.decode(raw)
        if isinstance(found, dict) and found.get("format") != FORMAT:
            remedy = f"{FORMAT}, the one this release reads; import or simulate it again"
            raise InvalidArchive(f"archive {folder}", "format", found.get("format"), remedy)
        return msgspec.convert(found, Manifest)
    except msgspec.MsgspecError as error:
        raise InvalidArchive(f"archive {folder}", MANIFEST_NAME, raw[:80], f"a manifest ({error})") from error


def data_files(folder: Path) -> list[Path]:
    """Every Parquet file of the archive in a folder, by path."""
    return sorted(file for part in PARTS for file in (folder / part).glob("*.parquet"))


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sums_of(folder: Path) -> bytes:
    """The text of `SHA256SUMS` for the Parquet files that are in a folder now, sorted by path."""
    lines = (f"{file_sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in data_files(folder))
    return "".join(lines).encode()


def digest_of(sums: bytes) -> str:
    """The archive's digest: SHA-256 of its `SHA256SUMS`."""
    return hashlib.sha256(sums).hexdigest()
