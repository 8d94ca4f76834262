"""Topics are created as declared, once, and what differs is told."""

import pytest

from plumbline.errors import Refused
from plumbline.names import TOPIC_SETTINGS, Topic
from streaming.kafka import administrator
from streaming.topics import ensure_topics, require_as_declared


def test_every_topic_is_created_as_declared_and_a_second_call_changes_nothing(kafka, topic_prefix: str) -> None:
    created = ensure_topics(kafka.bootstrap, topic_prefix, 3)
    assert {state.name: state.state for state in created} == {topic_prefix + topic.value: "created" for topic in Topic}
    assert {state.name: state.partitions for state in created} == {
        topic_prefix + topic.value: settings.partitions or 3 for topic, settings in TOPIC_SETTINGS.items()
    }
    again = ensure_topics(kafka.bootstrap, topic_prefix, 3)
    assert {state.state for state in again} == {"present"}
    require_as_declared(again)


def test_a_topic_that_is_not_as_declared_is_reported_and_left_alone(kafka, topic_prefix: str) -> None:
    name = topic_prefix + Topic.CONTROL.value
    with administrator(kafka.bootstrap) as admin:
        admin.create_topics({name: {"num_partitions": 2, "configs": {"cleanup.policy": "delete"}}})
    for _ in range(2):
        states = {state.name: state for state in ensure_topics(kafka.bootstrap, topic_prefix, 1)}
        assert states[name].state == "different"
        assert {(each.setting, each.wanted, each.found) for each in states[name].differences} == {
            ("partitions", "1", "2"),
            ("cleanup.policy", "compact", "delete"),
            ("message.timestamp.type", "LogAppendTime", "CreateTime"),
        }
    with pytest.raises(Refused, match=f"3 topic settings are not as declared .*{name}: partitions is 2, declared is 1"):
        require_as_declared(list(states.values()))
