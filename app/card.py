"""A version's card for people, as it lies beside the version: shown only while it is the file that was registered.

The page is closed off from the console: a policy of its own lets it draw and nothing else, and sandboxes it, so that
even a page that somebody slipped into a version could neither run nor reach anything.
"""

import hashlib
from pathlib import Path
from typing import Final

from store.model_tables import ModelVersion

NAME: Final = "assets.extra/card.html"
POLICY: Final = "; ".join(
    (
        "default-src 'none'", "style-src 'unsafe-inline'", "base-uri 'none'", "form-action 'none'",
        "frame-ancestors 'none'", "sandbox",
    )
)  # fmt: skip


def card_page(models: Path, version: ModelVersion) -> bytes | None:
    """The page's bytes; None where this machine does not have it, or has another file than was registered.

    models: folder of the versions, as the settings name it.
    """
    digest = version.files.get(NAME)
    if digest is None:
        return None
    try:
        page = (models / str(version.version) / NAME).read_bytes()
    except OSError:
        return None
    return page if hashlib.sha256(page).hexdigest() == digest else None
