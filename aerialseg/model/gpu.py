"""What is set once for a GPU: streams that last, and numbers as they are written."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import torch


class Lanes:
    """Streams, one for each call at a time; a thread keeps the one that it was given first.

    torch's allocator keeps what a stream has freed for the same stream: with a new one for each tile nothing would be
    used again.
    """

    def __init__(self, streams: Sequence[Any]) -> None:
        self._next, self._lock, self._own = cycle(streams), threading.Lock(), threading.local()

    def of_this_thread(self) -> Any:
        """The stream of the thread that asks."""
        if not hasattr(self._own, "stream"):
            with self._lock:
                self._own.stream = next(self._next)
        return self._own.stream


def cuda_streams(device: torch.device, count: int) -> list[Any]:
    """Streams that begin once what the current one was given is done: the weights, on their way to the device."""
    streams: list[Any] = [torch.cuda.Stream(device) for _ in range(count)]  # type: ignore[no-untyped-call]
    placed = torch.cuda.current_stream(device)
    for stream in streams:
        stream.wait_stream(placed)
    return streams


def compute_fp32_exactly() -> None:
    """Let convolutions and products in fp32 be those from now on, in this process.

    Unless told, cuDNN rounds their input to 10 bits (TF32). The flag is the process's: threads that each set it for a
    while, and back, would compute with each other's.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
