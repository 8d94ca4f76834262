"""The bins of a drift figure as people see them: words, shares then and now, and a picture drawn from both.

A picture is plain SVG from the server, so that it needs no script, and every share of it stands in a table as well.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from flask_babel import gettext

from app.codes import channel_words, country_words

WIDTH: Final = 240.0
HEIGHT: Final = 64.0
GAP: Final = 0.18
"""Share of a bin's width that stays empty; the bar of the window is half as wide as training's, and before it."""


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin: its words, and its shares of 1 in training and in the window."""

    text: str
    then: float
    now: float


@dataclass(frozen=True, slots=True)
class Bar:
    """Two bars of one bin in a picture of 240 × 64: left edges, widths and tops; both stand on the floor."""

    then_x: float
    then_width: float
    then_top: float
    now_x: float
    now_width: float
    now_top: float


def bins_of(name: str, stored: dict[str, Any]) -> list[Bin]:
    """The bins of a stored figure, the missing rows first; name: of the feature, for the words of its codes."""
    texts = [str(gettext("missing")), *_values(name, stored["edges"], stored["words"])]
    shares = [_shares(stored["then"]), _shares(stored["now"])]
    return [Bin(text, then, now) for text, then, now in zip(texts, *shares, strict=True)]


def bars(bins: Sequence[Bin]) -> list[Bar]:
    """A picture of some bins; the largest share of either side is as high as the picture."""
    highest = max((max(each.then, each.now) for each in bins), default=0.0) or 1.0
    step = WIDTH / max(len(bins), 1)
    wide, narrow = step * (1 - GAP), step * (1 - GAP) / 2
    return [
        Bar(
            then_x=step * place + (step - wide) / 2,
            then_width=wide,
            then_top=HEIGHT * (1 - each.then / highest),
            now_x=step * place + (step - narrow) / 2,
            now_width=narrow,
            now_top=HEIGHT * (1 - each.now / highest),
        )
        for place, each in enumerate(bins)
    ]


def most_moved(bins: Sequence[Bin]) -> Bin:
    """The bin whose share changed most: what a picture says in words."""
    return max(bins, key=lambda each: abs(each.now - each.then))


def _values(name: str, edges: Sequence[float], words: Sequence[str]) -> list[str]:
    if words:
        spoken = {"channel": channel_words, "country": country_words}.get(name, str)
        return [*(spoken(word) for word in words), str(gettext("all others that are known"))]
    if not edges:
        return [str(gettext("any value"))]
    shown = [f"{edge:.3g}".replace("-", "−") for edge in edges]
    between = [gettext("%(low)s to %(high)s", low=low, high=high) for low, high in itertools.pairwise(shown)]
    return [
        str(gettext("up to %(high)s", high=shown[0])),
        *map(str, between),
        str(gettext("above %(low)s", low=shown[-1])),
    ]


def _shares(counts: Sequence[int]) -> list[float]:
    rows = sum(counts) or 1
    return [count / rows for count in counts]
