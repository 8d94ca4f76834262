"""What becomes of messages, said as plainly as possible: one loop over a list of them, nothing kept but lists.

The messages come in the order in which the scorer takes them; history is `tests/features/oracle.py`'s double loop.
"""

from features.grammar import ABSENT
from plumbline.transaction import DAY_US
from tests.features import oracle


def intake(messages, *, remembered, waiting_most, now):
    """The entries of a list of (topic, fields), each as a dict; a decision's has its row of history's oracle."""
    decided, labelled, waiting = [], [], []  # bodies, oldest first; (id, n-th decision) with a fraud label; labels
    entries, rows = [], []

    def current(transaction_id):
        """Which decision is meant by an id: the newest with it, if it is among the newest that are remembered."""
        known = list(enumerate(decided))[-remembered:]
        return next((n for n, body in reversed(known) if body["transaction_id"] == transaction_id), None)

    def count(label, n):
        labelled.append(n)
        rows.append(row_of_label(label, decided[n]))

    for topic, fields in messages:
        time = fields["known_at" if topic == "labels" else "occurred_at"]
        if time > now + DAY_US:
            entries.append({"kind": "rejected"})
        elif topic == "transactions":
            n = current(fields["transaction_id"])
            if n is not None:
                entries.append({"kind": "conflict", "identical": decided[n] == fields})
                continue
            decided.append(fields)
            entries.append({"kind": "decision", "row": len(rows), "id": fields["transaction_id"]})
            rows.append(row_of(fields))
            for label in [each for each in waiting if each["transaction_id"] == fields["transaction_id"]]:
                waiting.remove(label)
                count(label, len(decided) - 1)
                entries.append({"kind": "label", "effect": "counted", "own": False})
        else:
            n = current(fields["transaction_id"])
            waits = [each for each in waiting if each["transaction_id"] == fields["transaction_id"]]
            if n is None and fields["verdict"] != "fraud":
                effect = "unknown_transaction"
            elif n is None and waits:
                effect = "repeated"
            elif n is None:
                effect = "waiting"
                waiting = [*waiting, fields][-waiting_most:]
            elif fields["verdict"] != "fraud":
                effect = "not_fraud"
            elif n in labelled:
                effect = "repeated"
            else:
                effect = "counted"
                count(fields, n)
            entries.append({"kind": "label", "effect": effect, "own": True})
    return entries, oracle.history(rows)


def row_of(body):
    """A transaction as history's oracle takes it."""
    place = {name: ABSENT if body[name] is None else body[name] for name in ("latitude_e6", "longitude_e6")}
    names = ("account_id", "merchant_id", "device_id", "amount_minor")
    at = {"time": body["occurred_at"], "occurred_at": body["occurred_at"]}
    return {name: body[name] for name in names} | place | at | {"is_label": False}


def row_of_label(label, body):
    """A fraud label as history's oracle takes it."""
    parties = {name: body[name] for name in ("account_id", "merchant_id")}
    nothing = {"device_id": "", "amount_minor": 0, "latitude_e6": ABSENT, "longitude_e6": ABSENT}
    return parties | nothing | {"time": label["known_at"], "occurred_at": body["occurred_at"], "is_label": True}
