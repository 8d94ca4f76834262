"""Taking source partitions for the first time, and noticing what is missing: nothing is passed over in silence.

Offsets name messages only together with the topic they are of. So the journal holds each source topic's id, and the
first offset that was taken of each partition. A topic that was deleted and created again, or whose next messages are
gone, stops the scorer until an operator says at which offset it should go on; the journal then holds the gap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kafka import TopicPartition

from plumbline.errors import InvalidSetting, StateDiverged
from plumbline.journal import Opened
from streaming.state import Positions

TOLD_MOST: Final = 10
"""Gaps that one error names."""


@dataclass(frozen=True, slots=True)
class Found:
    """A source partition as the broker has it: the topic's id, its oldest offset, and the one after its newest."""

    topic_id: str
    begin: int
    end: int


Accepted = Mapping[TopicPartition, int]
"""By partition the offset up to which an operator accepts that messages are gone."""


def accepted_gaps(options: Sequence[str]) -> dict[TopicPartition, int]:
    """What an operator accepts, from texts such as `transactions/3@1200`. Raises InvalidSetting for another text.

    >>> accepted_gaps(["transactions/3@1200"])
    {TopicPartition(topic='transactions', partition=3): 1200}
    """
    found = {}
    for text in options:
        place, at, offset = text.rpartition("@")
        topic, slash, partition = place.rpartition("/")
        if not (topic and slash and at and partition.isdecimal() and offset.isdecimal()):
            raise InvalidSetting("score", "--accept-gap", text, "TOPIC/PARTITION@OFFSET, such as transactions/3@1200")
        found[TopicPartition(topic, int(partition))] = int(offset)
    return found


def openings(
    positions: Positions, topic_ids: Mapping[str, str], found: Mapping[TopicPartition, Found], accepted: Accepted
) -> tuple[Opened, ...]:
    """What has to be journaled before these partitions can be taken; empty where all is as journaled before.

    positions, topic_ids: as journaled so far; found: every partition of the source topics. Raises StateDiverged when
    messages are gone and that is not accepted.
    """
    opened: list[Opened] = []
    gaps: list[tuple[TopicPartition, str, int]] = []
    for place, at in sorted(found.items()):
        position = positions.get((place.topic, place.partition))
        journaled = topic_ids.get(place.topic, "")
        made = {"topic": place.topic, "topic_id": at.topic_id, "partition": place.partition}
        if journaled and at.topic_id and journaled != at.topic_id and position is not None:
            why = f"the topic was deleted and created again (its id was {journaled} and is {at.topic_id})"
            if place in accepted and at.begin <= accepted[place]:
                opened.append(Opened(**made, first=at.begin, lost_from=position, instead_of=journaled))
            else:
                gaps.append((place, f"{why}: what it held from offset {position} on is gone", at.begin))
            continue
        wanted = 0 if position is None else position
        if at.begin > wanted:
            if place in accepted and at.begin <= accepted[place]:
                opened.append(Opened(**made, first=at.begin, lost_from=wanted))
            else:
                gaps.append(
                    (place, f"offsets {wanted} to {at.begin - 1} were deleted before they were taken", at.begin)
                )
        elif at.end < wanted:
            raise StateDiverged(
                f"{place.topic}, partition {place.partition}, ends before offset {at.end}, but the journal took it "
                f"up to {wanted - 1}: the topic was cut short, or is not of this installation; restore "
                "the topic"
            )
        elif position is None or (at.topic_id and journaled != at.topic_id):
            opened.append(Opened(**made, first=wanted))
    if gaps:
        said = "; ".join(f"{place.topic}, partition {place.partition}: {why}" for place, why, _ in gaps[:TOLD_MOST])
        options = " ".join(f"--accept-gap {place.topic}/{place.partition}@{begin}" for place, _, begin in gaps)
        raise StateDiverged(
            f"messages are gone ({said}): restore the topic, or let them go undecided for good with "
            f"`plumbline score {options}`, which journals the gap"
        )
    return tuple(opened)
