"""What the processor computes in: int8 by VNNI, bf16 by OpenVINO."""

from __future__ import annotations

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
