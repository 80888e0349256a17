"""How many megapixels a second a training step learns from, by its stride: side by side in one run.

    python benchmarks/stride.py [--batch 8] [--side 256] [--rounds 3]

Forward and backward pass of the default network over noise, on a GPU where there is one, in bf16 where it is fast; the
loading of frames and the optimizer are left out. On a CPU first with memory that goes back to the system whenever it is
freed, then with memory that is kept, as training keeps it.
"""

from __future__ import annotations

import argparse
import time

import torch

from aerialseg import memory
from aerialseg.training.config import STRIDES
from aerialseg.training.growing.partial_unet import PartialUNet
from aerialseg.training.learner import autocast, use_bf16
from aerialseg.training.torchvision_compat import patch_torchvision

patch_torchvision()
from fastai.vision.all import create_unet_model  # noqa: E402
from torchvision import models  # noqa: E402

CLASSES = 24


def seconds(stride: int, batch: int, side: int, rounds: int, device: torch.device, bf16: bool) -> float:
    """Of one forward and backward pass, the first of which is not counted."""
    model = create_unet_model(models.resnet34, CLASSES, (side, side), pretrained=False)
    model = (PartialUNet(model, stride, CLASSES) if stride > 1 else model).to(device, memory_format=torch.channels_last)
    image = torch.randn(batch, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    truth = torch.zeros(batch, side, side, dtype=torch.long, device=device)
    for count in range(rounds + 1):
        if count == 1:
            started = time.perf_counter()
        with autocast(device, bf16):
            logits = torch.Tensor(model.train()(image)).float()
        torch.nn.functional.cross_entropy(logits, truth).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
    return (time.perf_counter() - started) / rounds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    device, bf16 = torch.device("cuda" if torch.cuda.is_available() else "cpu"), use_bf16("auto")
    mpx = given.batch * given.side**2 / 1e6
    kind, threads = "bf16" if bf16 else "fp32", torch.get_num_threads()
    print(f"{device}, {kind}, {threads} threads, batch {given.batch} of {given.side} px")
    whole = None
    for stride in STRIDES:
        usual = seconds(stride, given.batch, given.side, given.rounds, device, bf16)
        with memory.keep_freed_memory():
            took = seconds(stride, given.batch, given.side, given.rounds, device, bf16)
        whole = whole or took
        print(
            f"stride {stride:2}: {mpx / usual:.3f} Mpx/s, memory kept {mpx / took:.3f}, {usual / took:4.2f} times; "
            f"{whole / took:4.1f} times the whole network's"
        )


if __name__ == "__main__":
    main()
