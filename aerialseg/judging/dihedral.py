"""Test-time averaging: a frame is looked at in its eight flips and turns, and the probabilities are averaged.

For scoring alone. It costs eight times the work, and a frame must go through the network whole, so no run does it: a
map made by ``aerialseg segment`` has the scores without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aerialseg.errors import ResourceError, UsageError
from aerialseg.model.card import ModelCard
from aerialseg.model.device import check_device
from aerialseg.model.interface import Prediction, Tile
from aerialseg.model.store import load_network

TURNS = tuple((quarters, mirrored) for mirrored in (False, True) for quarters in range(4))
"""(quarter turns, whether mirrored before): the eight symmetries of the square."""


@dataclass(frozen=True, slots=True, eq=False)
class DihedralPredictor:
    """A predictor of whole frames: of each tile, the core is looked at in all TURNS, without what lies around it."""

    card: ModelCard
    network: Any
    device: torch.device

    @classmethod
    def load(cls, model: str | Path | None, device: str = "auto", precision: str = "auto") -> DihedralPredictor:
        """Raises ModelError, ResourceError, and UsageError for a precision other than auto or fp32."""
        if precision not in ("auto", "fp32"):
            raise UsageError(f"precision {precision!r} with test-time averaging, which computes in fp32: leave one out")
        card, network = load_network(model)
        place = check_device(device)
        return cls(card, network.to(place), place)

    @torch.inference_mode()
    def predict(self, tile: Tile) -> Prediction:
        """Classes and confidence of the tile's core. Raises ResourceError where a whole frame does not fit."""
        frame = tile.pixels[:, *tile.core.within(tile.window)]
        pixels = torch.from_numpy(np.ascontiguousarray(frame)).to(self.device).float() / 255
        mean, std = (torch.tensor(v, device=self.device).view(-1, 1, 1) for v in (self.card.mean, self.card.std))
        image = ((pixels - mean) / std)[None]
        try:
            probability = torch.stack([self._look(image, *turn) for turn in TURNS]).mean(dim=0)
        except (torch.OutOfMemoryError, MemoryError) as error:
            rows, cols = frame.shape[1:]
            raise ResourceError(
                f"a frame of {rows} x {cols} px does not fit into the memory of {self.device}: reduce frames with "
                "--size ROWS,COLS, or leave --tta out"
            ) from error
        best, classes = probability.max(dim=0)
        percent = (best * 100).round().clamp(0, 100)
        return Prediction(*(found.to(torch.uint8).cpu().numpy() for found in (classes, percent)))

    def _look(self, image: Tensor, quarters: int, mirrored: bool) -> Tensor:
        """Probabilities (classes, h, w) from one turn of the image (1, bands, h, w), turned back."""
        turned = torch.rot90(image.flip(-1) if mirrored else image, quarters, (-2, -1))
        rows, cols = turned.shape[-2:]
        stride = self.card.stride
        padded = F.pad(turned, (0, -cols % stride, 0, -rows % stride))
        logits = self.network(padded)[..., :rows, :cols].float()
        if self.card.void:
            logits[:, list(self.card.void)] = -torch.inf
        probability = (logits / self.card.temperature).softmax(dim=1)
        back = torch.rot90(probability, -quarters, (-2, -1))
        return (back.flip(-1) if mirrored else back)[0]
