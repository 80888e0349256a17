"""A step may leave the encoder as it is while the decoder learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aerialseg.training import train
from aerialseg.training.checkpoint import read_checkpoint
from tests.drawn_frames import CONFIG
from tests.training.test_train import write_config

STEP = """
[[steps]]
size = [64, 64]
epochs = 1
batch = 2
lr = 1e-2
"""


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "stem"), [("unet", "layers.0."), ("smp-unet", "encoder.")])
def test_a_frozen_encoder_keeps_weights_and_statistics_and_learns_in_the_step_after(
    drawn_data: Path, tmp_path: Path, kind: str, stem: str
) -> None:
    text = CONFIG.partition("[[steps]]")[0] + f'[decoder]\nkind = "{kind}"\n'
    frozen = STEP + "frozen = true\n"
    config = write_config(drawn_data, tmp_path, text + 2 * frozen + STEP)
    made = train(config, drawn_data, tmp_path / "made", keep_checkpoints=True)
    one, two, three = (saved_weights(made, number) for number in range(3))
    encoder = [name for name in one if name.startswith(stem)]
    assert any("running_mean" in name for name in encoder)
    assert all(torch.equal(one[name], two[name]) for name in encoder)
    assert any(not torch.equal(one[name], two[name]) for name in one.keys() - encoder)
    assert any(not torch.equal(two[name], three[name]) for name in encoder if name.endswith("conv1.weight"))


def saved_weights(made: Path, number: int) -> dict[str, torch.Tensor]:
    saved = read_checkpoint(made / "training", f"step{number}.safetensors")
    assert saved is not None
    return saved.weights
