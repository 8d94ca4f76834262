"""What one entry of the journal is in SQL: pure functions from plumbline.journal's types to rows of store.tables."""

from typing import assert_never

from plumbline import journal
from plumbline.decision import Decision, alert_of
from store.ledger import Row, Rows


def add(rows: Rows, entry: journal.Entry, sequence: int, appended_at_ms: int) -> None:
    """Put an entry's rows behind those already there.

    sequence: the entry's journal offset; appended_at_ms: when the broker took it in, milliseconds since 1970 UTC.
    """
    match entry:
        case Decision():
            rows.decisions.append(_decision(entry, sequence, appended_at_ms))
            alert = alert_of(entry)
            if alert is not None:
                rows.alerts.append(
                    {
                        "transaction_id": alert.transaction_id,
                        "outcome": alert.outcome.value,
                        "expected_loss_minor": alert.expected_loss_minor,
                        "opened_at": alert.opened_at,
                        "status": "open",
                    }
                )
        case journal.LabelApplied():
            _add_label(rows, entry, sequence)
        case journal.Conflict():
            rows.conflicts.append(
                {
                    "sequence": sequence,
                    "transaction_id": entry.transaction.transaction_id,
                    "identical": entry.identical,
                    "transaction": entry.transaction,
                    "source_partition": entry.source.partition,
                    "source_offset": entry.source.offset,
                    "journaled_at": entry.journaled_at,
                }
            )
        case journal.Rejected():
            rows.rejected.append(
                {
                    "sequence": sequence,
                    "source_topic": entry.source.topic,
                    "source_partition": entry.source.partition,
                    "source_offset": entry.source.offset,
                    "error": storable(entry.error),
                    "journaled_at": entry.journaled_at,
                }
            )
        case journal.ControlApplied():
            rows.policies.append(
                {
                    "sequence": sequence,
                    "version": entry.policy.version,
                    "body": entry.policy,
                    "journaled_at": entry.journaled_at,
                }
            )
        case journal.AssignmentApplied():
            rows.assignments.append(
                {
                    "sequence": sequence,
                    "version": "" if entry.assignment is None else entry.assignment.version,
                    "body": entry.assignment,
                    "fingerprints": entry.fingerprints,
                    "declarations": sorted(entry.declarations),
                    "journaled_at": entry.journaled_at,
                }
            )
        case journal.Answered():
            values = entry.values or (None,) * len(entry.sequences)
            rows.shadow_scores += [
                {"sequence": of, "version": entry.version, "score": value, "failure": entry.failure}
                for of, value in zip(entry.sequences, values, strict=True)
            ]
        case journal.JournalBegun() | journal.MemoryChanged() | journal.SourcesOpened():
            pass  # what a fold needs; SQL has no row of it
        case _:
            assert_never(entry)


def storable(text: str) -> str:
    """Text as every database takes it: PostgreSQL has no character NUL.

    >>> storable("a" + chr(0) + "b")
    'a�b'
    """
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _decision(entry: Decision, sequence: int, appended_at_ms: int) -> Row:
    transaction, deciding = entry.transaction, entry.scores[0] if entry.scores else None
    return {
        "transaction_id": transaction.transaction_id,
        "sequence": sequence,
        "occurred_at": transaction.occurred_at,
        "account_id": transaction.account_id,
        "merchant_id": transaction.merchant_id,
        "device_id": transaction.device_id,
        "amount_minor": transaction.amount_minor,
        "currency": transaction.currency,
        "channel": transaction.channel,
        "mcc": transaction.mcc,
        "country": transaction.country,
        "latitude_e6": transaction.latitude_e6,
        "longitude_e6": transaction.longitude_e6,
        "outcome": entry.outcome.value,
        "score": None if deciding is None else deciding.value,
        "model_version": None if deciding is None else deciding.model_version,
        "policy_version": entry.policy_version,
        "fingerprint": entry.fingerprint,
        "reasons": entry.reasons,
        "history": entry.history,
        "source_partition": entry.source.partition,
        "source_offset": entry.source.offset,
        "received_at_ms": entry.source.appended_at_ms,
        "journaled_at_ms": appended_at_ms,
        "decided_at": entry.decided_at,
        "assignment": entry.assignment,
        "route": entry.route,
    }


def _add_label(rows: Rows, entry: journal.LabelApplied, sequence: int) -> None:
    label = entry.label
    if entry.source is None:
        told = {"label": label.label_id, "of": label.transaction_id}
        rows.late_counts.append({**told, "account": entry.account_id, "merchant": entry.merchant_id})
    else:
        rows.labels.append(_label(entry, sequence))
    if label.source == "analyst":
        closing = {"alert_of": label.transaction_id, "told": sequence, "at": label.known_at, "who": storable(label.by)}
        rows.closings.append(closing)


def _label(entry: journal.LabelApplied, sequence: int) -> Row:
    label = entry.label
    return {
        "label_id": label.label_id,
        "sequence": sequence,
        "transaction_id": label.transaction_id,
        "account_id": entry.account_id,
        "merchant_id": entry.merchant_id,
        "verdict": label.verdict,
        "source": label.source,
        "known_at": label.known_at,
        "by": storable(label.by),
        "note": storable(label.note),
        "effect": entry.effect,
        "journaled_at": entry.journaled_at,
    }
