"""Where the network runs and in what numbers: device, runtime, precision, and how much fits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerialseg.errors import ResourceError, UsageError
from aerialseg.model.card import ModelCard
from aerialseg.model.cpu import has_bf16, has_openvino, has_torch, may_have_gpu, multiplies_int8

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
RUNTIMES = ("auto", "torch", "openvino")

TILES = (2048, 1024, 512, 256)
"""Pixels along the side of what goes through the network at once; each costs less work a pixel than the next."""

_BASE_BYTES, _BYTES_PER_PIXEL = 1.5e9, {"fp32": 2400.0, "bf16": 1300.0, "fp16": 1300.0, "int8": 1100.0}
"""What the network takes: for itself and for each pixel of a tile's core (peaks of benchmarks/throughput.py)."""

_SHARE = 0.6
"""Of the memory that is free at the start; the rest is for reading, writing and for what else goes on."""


@dataclass(frozen=True, slots=True)
class ComputeMode:
    """How the network is run, once nothing is "auto" any more. device: "cpu", "cuda" or "cuda:N"."""

    device: str
    runtime: str
    precision: str

    @property
    def numerics(self) -> str:
        """Such as "cpu openvino bf16": labels may differ at ties between two of them, so they are never mixed.

        OpenVINO computes in something else where the processor lacks instructions (of int8, the rest is in bf16).
        """
        name = f"{kind_of(self.device)} {self.runtime} {self.precision}"
        if self.runtime != "openvino" or self.precision == "fp32":
            return name
        lacking = [] if self.precision == "bf16" or multiplies_int8() else ["no VNNI"]
        lacking += [] if has_bf16() else ["no bf16"]
        return f"{name} ({', '.join(lacking)})" if lacking else name


def kind_of(device: str) -> str:
    """ "cpu" or "cuda"."""
    return device.partition(":")[0]


def choose(device: str, precision: str, runtime: str, card: ModelCard | None = None) -> ComputeMode:
    """The way to run a model: OpenVINO on a CPU where the model has a ``network.onnx``, torch otherwise.

    The precision is the fastest that the processor computes in and that loses nothing worth mentioning: bf16, or int8
    where the card says that this was measured.

    Raises UsageError for a word that is not known or a way that there is not, ResourceError for what is not here.
    """
    place = check_device(device)
    check_precision(precision)
    if runtime not in RUNTIMES:
        raise UsageError(f"runtime {runtime!r}: wanted one of {', '.join(RUNTIMES)}")
    if runtime == "openvino":
        _check_openvino(place, card)
    elif runtime == "auto":
        written = place == "cpu" and (card is None or bool(card.network_sha256))
        runtime = "openvino" if written and has_openvino() else "torch"
    if runtime == "torch":
        _check_torch(card)
    if precision == "int8":
        _check_int8(runtime, card)
    if precision == "fp16" and kind_of(place) != "cuda":
        raise UsageError(f"precision fp16 on {kind_of(place)}: it is for GPUs without bf16; use another --precision")
    return ComputeMode(place, runtime, _precision(place, runtime, card) if precision == "auto" else precision)


def _precision(device: str, runtime: str, card: ModelCard | None) -> str:
    if kind_of(device) == "cuda":
        import torch

        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if runtime == "openvino" and card is not None and card.int8_is_as_good and multiplies_int8():
        return "int8"
    # torch in bf16 on a CPU is slow where the processor cannot do it, and does not say so.
    return "bf16" if runtime == "openvino" and has_bf16() else "fp32"


def _check_int8(runtime: str, card: ModelCard | None) -> None:
    if runtime != "openvino":
        raise UsageError("int8 runs on OpenVINO, on a CPU: use --device cpu --runtime openvino, or another --precision")
    if card is None or not card.ranges:
        raise UsageError("this model was not quantized: run 'aerialseg quantize' on it, or use another --precision")


def _check_openvino(device: str, card: ModelCard | None) -> None:
    if device != "cpu":
        raise UsageError(f"runtime openvino on {device}: it runs on a CPU; use --device cpu, or --runtime torch")
    if card is not None and not card.architecture.local:
        raise UsageError("runtime openvino runs exact models only: use --runtime torch for this one")
    if card is not None and not card.network_sha256:
        raise UsageError(f"runtime openvino reads network.onnx, which this model lacks: {_UPDATE}")
    if not has_openvino():
        raise ResourceError("openvino cannot be loaded: pip install --force-reinstall openvino, or use --runtime torch")


_UPDATE = "'aerialseg model update MODEL' writes it (with torch: pip install 'aerialseg[train]')"


def _check_torch(card: ModelCard | None) -> None:
    if has_torch():
        return
    if card is None or card.network_sha256:
        raise ResourceError("torch is not installed: pip install 'aerialseg[gpu]', or use --runtime openvino")
    if not card.architecture.local:
        raise ResourceError("this model cannot be exact and runs on torch only: pip install 'aerialseg[gpu]'")
    raise ResourceError(f"this model has no network.onnx, so it needs torch: pip install 'aerialseg[gpu]'; {_UPDATE}")


def check_device(device: str) -> str:
    """The device of "auto", "cpu", "cuda" or "cuda:N". Raises UsageError, ResourceError if it is not there."""
    if device == "auto":
        return "cuda" if may_have_gpu() and has_torch() and _cuda().is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise UsageError(f"device {device!r}: wanted auto, cpu, cuda or cuda:N")
    if device != "cpu":
        _check_cuda(device)
    return device


def _cuda() -> Any:
    import torch

    return torch.cuda


def _check_cuda(device: str) -> None:
    if not has_torch():
        raise ResourceError("CUDA asked for but torch is not installed: pip install 'aerialseg[gpu]', or --device cpu")
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda is not None
        why = "no usable NVIDIA GPU or driver was found" if built else "this torch is a build without CUDA"
        raise ResourceError(f"CUDA asked for but {why}: use --device cpu, or install torch with CUDA")
    if int(device.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise ResourceError(f"{device} asked for but there are {torch.cuda.device_count()} GPUs: use cuda:0 or auto")


def check_precision(precision: str) -> None:
    """Raise UsageError for a precision that is not known."""
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r}: wanted one of {', '.join(PRECISIONS)}")


def choose_size(way: ComputeMode, beside: float = 0.0, lanes: int = 1) -> tuple[int, int]:
    """(tile, batch) that fit into the memory that is free now. beside: bytes a pixel, to those of the network.

    lanes: so many tiles are computed at a time, and share the memory.
    """
    room = (free_bytes(way.device) * _SHARE - _BASE_BYTES) / lanes
    per_pixel = _BYTES_PER_PIXEL[way.precision] + beside
    tile = next((tile for tile in TILES if tile * tile * per_pixel <= room), TILES[-1])
    batch = int(room / (tile * tile * per_pixel)) if kind_of(way.device) == "cuda" else 1
    return tile, min(max(batch, 1), 4)


def free_bytes(device: str) -> float:
    """Memory that is free: a GPU's own; on a CPU the machine's, or what the container may still use of it."""
    if kind_of(device) == "cuda":
        return float(_cuda().mem_get_info(device)[0])
    return min(_free_here())


def _free_here() -> Iterator[float]:
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        yield 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    with suppress(OSError, ValueError):  # "max" where there is no limit
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        yield float(max(0, limit - used))
    with suppress(OSError, ValueError, AttributeError):
        yield 0.5 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield 64e9
