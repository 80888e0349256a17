"""Encoders: deepened without changing what they compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from aerialseg.errors import ModelError
from aerialseg.training.encoder import DEPTHS, calibrate, deepen, load_encoder, read_encoder_weights
from aerialseg.training.torchvision_compat import patch_torchvision

patch_torchvision()
from torchvision import models  # noqa: E402


def lively_resnet18() -> nn.Module:
    """A ResNet-18 whose BatchNorm has scales, shifts and statistics of its own."""
    torch.manual_seed(0)
    network = models.resnet18()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    calibrate(network, [torch.randn(4, 3, 64, 64) for _ in range(2)])
    return network.eval()


def body(network: nn.Module) -> nn.Sequential:
    return nn.Sequential(*list(network.children())[:-2]).eval()


def test_a_deepened_encoder_computes_the_same_function() -> None:
    shallow, deep = lively_resnet18(), models.resnet34().eval()
    state = {name: t for name, t in shallow.state_dict().items() if not name.startswith("fc")}
    missing, unexpected = deep.load_state_dict(deepen(state, DEPTHS["resnet34"]), strict=False)
    assert all(name.startswith("fc") for name in missing)
    assert not unexpected
    with torch.inference_mode():
        for size in ((64, 64), (96, 160)):
            x = torch.randn(1, 3, *size)
            torch.testing.assert_close(body(deep)(x), body(shallow)(x), atol=1e-5, rtol=1e-5)


def test_added_blocks_can_learn() -> None:
    """Their last scale is zero but its gradient is not."""
    deep = models.resnet34()
    state = {name: t for name, t in lively_resnet18().state_dict().items() if not name.startswith("fc")}
    deep.load_state_dict(deepen(state, DEPTHS["resnet34"]), strict=False)
    deep(torch.randn(2, 3, 64, 64)).sum().backward()
    assert deep.layer3[5].bn2.weight.grad.abs().max() > 0  # type: ignore[union-attr,operator,index]


@pytest.mark.slow
def test_weights_load_from_safetensors_and_from_torchvisions_own_files(tmp_path: Path) -> None:
    network = lively_resnet18()
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    torch.save(network.state_dict(), tmp_path / "b.pth")
    target = body(models.resnet34())
    for name in ("a.safetensors", "b.pth"):
        load_encoder(target, "resnet34", "deepen", tmp_path / name)
        x = torch.randn(1, 3, 64, 64)
        with torch.inference_mode():
            torch.testing.assert_close(target(x), body(network)(x), atol=1e-5, rtol=1e-5)


def test_code_in_a_pth_file_is_not_run(tmp_path: Path) -> None:
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(tmp_path / "boom"), "w")

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelError, match=r"evil\.pth"):
        read_encoder_weights(tmp_path / "evil.pth")
    assert not (tmp_path / "boom").exists()


def test_weights_of_another_depth_are_refused_unless_deepening_is_meant(tmp_path: Path) -> None:
    save_file(lively_resnet18().state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=r"set encoder\.start to 'deepen'"):
        load_encoder(body(models.resnet34()), "resnet34", "pretrained", tmp_path / "a.safetensors")


def test_something_that_is_no_resnet_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=r"no 'conv1\.weight'"):
        read_encoder_weights(tmp_path / "a.safetensors")


def test_calibrating_takes_the_statistics_of_what_it_is_shown() -> None:
    norm = nn.Sequential(nn.BatchNorm2d(2)).eval()
    batches = [torch.randn(8, 2, 5, 5) * 3 + 7 for _ in range(4)]
    assert calibrate(norm, batches) == 4
    assert not norm.training
    assert norm[0].momentum == 0.1
    torch.testing.assert_close(norm[0].running_mean, torch.cat(batches).mean((0, 2, 3)), atol=1e-4, rtol=1e-4)
