"""The suite's own broker: usable by every test, in every worker."""

import pytest


@pytest.mark.parametrize("turn", range(4))
def test_the_shared_broker_takes_and_gives_a_message(kafka, topic_prefix, turn):
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

    topic = f"{topic_prefix}echo"
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})
    with KafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        producer.send(topic, b"%d" % turn).get(10)
    with KafkaConsumer(topic, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest") as consumer:
        assert next(consumer).value == b"%d" % turn
