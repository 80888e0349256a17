"""What this machine computes in: int8 by VNNI, bf16 by OpenVINO, in how many threads, and whether it has a GPU."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def multiplies_int8() -> bool:
    """Whether the processor multiplies 8-bit integers without overflow (VNNI, AMX); False where nothing tells."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return False
    return bool(words & {"avx512_vnni", "avx_vnni", "amx_int8", "i8mm"})


@cache
def has_openvino() -> bool:
    """Whether OpenVINO is installed; of one that cannot be loaded torch does the work."""
    if find_spec("openvino") is None:
        return False
    try:
        import openvino  # noqa: F401
    except ImportError:
        return False
    return True


@cache
def has_bf16() -> bool:
    """Whether this machine's processor has bf16 arithmetic, as OpenVINO, which must be installed, sees it."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


_given: list[int] = []


def use_threads(count: int) -> None:
    """Let networks that are loaded from now on compute in so many threads."""
    _given[:] = [count]


def cpu_threads() -> int:
    """Threads to compute in: those given, else OMP_NUM_THREADS, else one for each processor of this process."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if _given or wanted.isdecimal():
        return max(1, _given[0] if _given else int(wanted))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_torch() -> bool:
    """Whether torch is installed; it is not imported."""
    return find_spec("torch") is not None


@cache
def may_have_gpu() -> bool:
    """Whether there is a driver for NVIDIA's or AMD's GPUs: without one there is no need to import torch and ask."""
    if Path("/dev/kfd").exists():
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True
