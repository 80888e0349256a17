"""What a safetensors file holds, read without torch: the place of each tensor, and whether its numbers are finite.

(https://huggingface.co/docs/safetensors: eight bytes, the length of the header; the header, JSON; the tensors.)
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aerialseg.errors import AerialsegError, ModelError
from aerialseg.files import one_line
from aerialseg.toml import convert

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_EXPONENTS = {"F64": 0x7FF0 << 48, "F32": 0x7F80 << 16, "F16": 0x7C00, "BF16": 0x7F80}
"""Bits of the exponent: all of them are set in NaN and infinity, and in nothing else."""
_AT_ONCE = 1 << 22


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies in the file, in bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by their names. Raises ModelError where it is not a complete one."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            size = path.stat().st_size
            if length > size - 8:
                raise ValueError(f"its header is said to have {length:,} bytes and the file has {size:,}")
            values = json.loads(file.read(length))
        found = {name: _stored(name, one, 8 + length) for name, one in values.items() if name != "__metadata__"}
        if any(one.offset + one.length > size for one in found.values()):
            raise ValueError("tensors are said to lie beyond its end")
    except (OSError, ValueError, struct.error, AttributeError, AerialsegError) as error:
        raise ModelError(
            f"{path} is not a complete safetensors file ({one_line(error)}): damaged or cut off; fetch it again"
        ) from error
    return found


def _stored(name: str, values: object, base: int) -> StoredTensor:
    known = convert(values, dict[str, object], name)
    dtype = convert(known.get("dtype"), str, name)
    shape = convert(known.get("shape"), tuple[int, ...], name)
    begin, end = convert(known.get("data_offsets"), tuple[int, int], name)
    if dtype not in _BYTES or begin < 0 or end - begin != math.prod(shape) * _BYTES[dtype]:
        raise ValueError(f"{name}: {end - begin} bytes of {dtype} for the shape {shape}")
    return StoredTensor(dtype, shape, base + begin, end - begin)


def check_finite(path: Path, tensors: dict[str, StoredTensor]) -> None:
    """Raise ModelError that names the first tensor with NaN or infinity in it."""
    for name, tensor in tensors.items():
        mask = _EXPONENTS.get(tensor.dtype)
        if mask is None or not tensor.length:
            continue
        kind = np.dtype(f"<u{_BYTES[tensor.dtype]}")
        bits = np.memmap(path, kind, "r", tensor.offset, (tensor.length // kind.itemsize,))
        for start in range(0, len(bits), _AT_ONCE):
            if ((bits[start : start + _AT_ONCE] & kind.type(mask)) == mask).any():
                raise ModelError(f"{path}: {name} holds values that are not finite (NaN or infinity)")
