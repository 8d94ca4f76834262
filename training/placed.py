"""Where a network is fitted: over all GPUs of a machine, some logical CPU devices, or the workers of a cluster.

A cluster is what the environment variable `TF_CONFIG` says, TensorFlow's own way, so that operators for Kubernetes and
clouds know how to set it. Whatever the placement, the global batch is the same.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from plumbline.errors import InvalidSetting, Refused

VARIABLE = "TF_CONFIG"


@dataclass(frozen=True, slots=True)
class Cluster:
    """This process among those that train together: its number from 0, and how many there are."""

    worker: int = 0
    workers: int = 1

    @property
    def is_chief(self) -> bool:
        """Worker 0 writes what all share: examples, checkpoints, logs, the version."""
        return self.worker == 0


def cluster(environ: Mapping[str, str]) -> Cluster:
    """What `TF_CONFIG` says; one process alone when it is not set. Raises InvalidSetting."""
    text = environ.get(VARIABLE, "")
    if not text:
        return Cluster()
    try:
        said = json.loads(text)
        workers, task = list(said["cluster"]["worker"]), said["task"]
        if set(said["cluster"]) != {"worker"} or task["type"] != "worker" or not 0 <= task["index"] < len(workers):
            raise KeyError("worker")
    except (ValueError, KeyError, TypeError) as error:
        allowed = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": N}}'
        raise InvalidSetting("environment", VARIABLE, text, allowed) from error
    return Cluster(task["index"], len(workers))


def strategy(devices: int | None, among: Cluster = Cluster()) -> Any:
    """MirroredStrategy over every GPU; over `devices` logical CPU devices (1 when None) where there is none.

    In a cluster of several workers: MultiWorkerMirroredStrategy, over the GPUs or the one CPU of each.
    Must run before TensorFlow's first operation; raises Refused when the devices are settled already.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        _grow(gpu)
    if among.workers > 1:
        if devices is not None:
            raise Refused("--devices is for one machine: workers of a cluster use all of their GPUs, or one CPU each")
        return tf.distribute.MultiWorkerMirroredStrategy()
    if gpus:
        if devices is not None and devices > len(gpus):
            raise Refused(f"{devices} devices were asked for, but this machine has {len(gpus)} GPUs: ask for fewer")
        return tf.distribute.MirroredStrategy([f"GPU:{n}" for n in range(devices or len(gpus))])
    wanted = devices or 1
    _split_cpu(wanted)
    return tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(wanted)])


def _grow(gpu: Any) -> None:
    """Memory as it is needed, since a model server may share the GPU."""
    try:
        tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:  # TensorFlow has started, and holds the memory that it holds
        return


def _split_cpu(wanted: int) -> None:
    devices = [tf.config.LogicalDeviceConfiguration()] * wanted
    try:
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    except RuntimeError:  # TensorFlow has started: what there is must do
        found = len(tf.config.list_logical_devices("CPU"))
        if found < wanted:
            message = f"{wanted} devices were asked for, but TensorFlow has started with {found}: ask in a new process"
            raise Refused(message) from None
