"""The console's few icons, drawn on a 24 × 24 grid; written into the page, so that the policy needs no exception."""

from typing import Final

from markupsafe import Markup

_PATHS: Final = {
    "plumb": '<path d="M12 2v8"/><path d="M9 2h6"/><path d="M8 10h8l-1 5-3 7-3-7z"/>',
    "approve": '<circle cx="12" cy="12" r="9"/><path d="m8 12 3 3 5-6"/>',
    "review": '<path d="M12 3.5 21.5 20h-19z"/><path d="M12 10v4.5"/><path d="M12 17.2v.1"/>',
    "decline": '<path d="M8 3h8l5 5v8l-5 5H8l-5-5V8z"/><path d="m9 9 6 6M15 9l-6 6"/>',
    "fraud": '<path d="M8 3h8l5 5v8l-5 5H8l-5-5V8z"/><path d="m9 9 6 6M15 9l-6 6"/>',
    "genuine": '<circle cx="12" cy="12" r="9"/><path d="m8 12 3 3 5-6"/>',
    "unsure": '<circle cx="12" cy="12" r="9"/><path d="M9.5 9.5a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1.9-1.1 1.8"/><path d="M12 17v.1"/>',
    "sun": '<circle cx="12" cy="12" r="4"/><path d="M12 2v2.5M12 19.5V22M2 12h2.5M19.5 12H22M5 5l1.7 1.7M17.3 17.3 19 19M19 5l-1.7 1.7M6.7 17.3 5 19"/>',
    "moon": '<path d="M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z"/>',
    "keys": '<rect x="2.5" y="6" width="19" height="12" rx="2"/><path d="M7 10h.1M11 10h.1M15 10h.1M8 14h8"/>',
    "person": '<circle cx="12" cy="8" r="4"/><path d="M4.5 20.5a7.5 7.5 0 0 1 15 0"/>',
    "leave": '<path d="M10 4H5v16h5"/><path d="M14 8l4 4-4 4M18 12H9.5"/>',
    "up": '<path d="M12 19V6M6.5 11 12 5.5 17.5 11"/>',
    "search": '<circle cx="11" cy="11" r="6.5"/><path d="m16 16 5 5"/>',
    "note": '<circle cx="12" cy="12" r="9"/><path d="M12 11v5.5M12 7.6v.1"/>',
    "done": '<circle cx="12" cy="12" r="9"/><path d="m8 12 3 3 5-6"/>',
}


def icon(name: str) -> Markup:
    """An icon that says nothing by itself: the word stands beside it."""
    return Markup(f'<svg class="icon" viewBox="0 0 24 24" aria-hidden="true">{_PATHS[name]}</svg>')  # noqa: S704
