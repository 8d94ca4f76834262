"""The kind of host that floats were computed on: what can change their last bits, and nothing else."""

import os
import platform
from pathlib import Path
from typing import Final

import tensorflow as tf

VECTOR_FLAGS: Final = frozenset(
    {"sse4_1", "sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve"}
)


def host_facts() -> dict[str, str]:
    """Processor family, its vector instructions, whether oneDNN computes, and TensorFlow's version."""
    return {
        "machine": platform.machine(),
        "vector": " ".join(sorted(VECTOR_FLAGS & _flags())),
        "onednn": "off" if os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") == "0" else "on",
        "tensorflow": tf.__version__,
    }


def _flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()  # another operating system: the processor's family has to do
    for line in lines:
        name, _, flags = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return set(flags.split())
    return set()
