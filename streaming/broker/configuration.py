"""What the local broker's configuration files say, and why."""

from pathlib import Path
from typing import Final

CLUSTER_ID: Final = "UGx1bWJsaW5lLWxvY2FsMQ"
"""One fixed id (22 characters of base64, as Kafka wants): a data folder keeps working when everything else is new."""

_SERVER: Final = """\
# Written at every start of the local broker; changes made here are lost.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}

# A misspelt topic is an error; `plumbline topics` creates those that exist.
auto.create.topics.enable=false

# One node: one replica of everything, and few partitions for Kafka's own topics, since each costs start-up time.
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1

# A dead scorer's lease is given on after a second, and a group's first member does not wait for others.
group.min.session.timeout.ms=1000
group.initial.rebalance.delay.ms=0

# After a crash the controller takes the same node back once the old one's session has run out: 3 s instead of 9.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500

# Threads and buffers for a laptop that also runs everything else.
num.network.threads=2
num.io.threads=4
background.threads=2
num.recovery.threads.per.data.dir=2
log.cleaner.dedupe.buffer.size=16777216
socket.send.buffer.bytes=1048576
socket.receive.buffer.bytes=1048576
"""

_LOGGING: Final = """\
# Written at every start of the local broker; changes made here are lost.
status=error
appender.file.type=RollingFile
appender.file.name=File
appender.file.fileName={log_file}
appender.file.filePattern={log_file}.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{{ISO8601}} %p %c{{1}} %m%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=10MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=2
rootLogger.level=info
rootLogger.appenderRef.file.ref=File
# A thousand lines of settings at every start.
logger.settings.name=org.apache.kafka.common.config.AbstractConfig
logger.settings.level=warn
"""


def server_properties(data: Path, port: int, controller_port: int) -> str:
    """Text of server.properties for a node that is broker and controller, on the loopback address alone."""
    return _SERVER.format(data=data, port=port, controller_port=controller_port)


def log4j2_properties(log_file: Path) -> str:
    """Text of log4j2.properties: everything goes to one file, 10 MB at most, two older ones kept."""
    return _LOGGING.format(log_file=log_file)
