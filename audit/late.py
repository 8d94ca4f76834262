"""Labels that waited for their transactions, as the audit sees them.

Such a label counts behind its transaction whatever the journal says, so that a record that was taken away or added
leads no number astray; that second record, which answers no message, is compared with what is due.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

from plumbline.journal import LabelApplied
from plumbline.label import Label

Judged = TypeVar("Judged")


class LateLabels(Generic[Judged]):
    """Second records that are due, each behind the decision that it belongs to, judged."""

    def __init__(self) -> None:
        self._due: dict[str, tuple[Judged, LabelApplied]] = {}

    def expect(self, decided: Judged, late: LabelApplied) -> None:
        """A record of this label is due behind a decision."""
        self._due[late.label.transaction_id] = decided, late

    def became(self, label: Label) -> str:
        """What should have become of a label that is journaled a second time, in words."""
        _, late = self._due.pop(label.transaction_id, (None, None))
        return label_words(late) if late is not None and late.label == label else "nothing, since no such label waited"

    def missing(self, newest: Judged) -> Iterator[tuple[Judged, str]]:
        """Decisions that no due record follows, and its words, once; the one behind the newest may still come."""
        for transaction_id, (decided, late) in list(self._due.items()):
            if decided is not newest:
                del self._due[transaction_id]
                yield decided, label_words(late)


def label_words(entry: LabelApplied) -> str:
    """What became of a label."""
    parties = f" for {entry.account_id} and {entry.merchant_id}" if entry.account_id else ""
    return f"label, {entry.effect}{parties}"
