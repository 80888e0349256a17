"""The plain network is fastai's DynamicUnet: same names, same numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from aerialseg.model.networks import build
from aerialseg.training.norm_folding import fold_norms
from aerialseg.training.torchvision_compat import patch_torchvision

patch_torchvision()
from fastai.vision.all import NormType, SelfAttention, create_unet_model  # noqa: E402
from torchvision import models  # noqa: E402


def fastais(arch: str, **options: Any) -> torch.nn.Module:
    """fastai's network in eval mode; BatchNorm has statistics and attention counts."""
    torch.manual_seed(0)
    network: torch.nn.Module = create_unet_model(getattr(models, arch), 24, (64, 64), pretrained=False, **options)
    for module in network.modules():
        if isinstance(module, SelfAttention):
            module.gamma.data.fill_(0.7)
    with torch.no_grad():
        network.train()(torch.randn(2, 3, 64, 64))
    return network.eval()


SIZES = ((32, 32), (64, 96), (50, 77))


def assert_same(
    ours: torch.nn.Module,
    theirs: torch.nn.Module,
    *,
    atol: float = 1e-6,
    sizes: tuple[tuple[int, int], ...] = SIZES,
) -> None:
    ours.eval()
    with torch.inference_mode():
        for size in sizes:
            x = torch.randn(1, 3, *size)
            difference = (torch.Tensor(theirs(x)) - ours(x)).abs().max()
            assert float(difference) <= atol, size


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "blur"), [("resnet34", False), ("resnet18", True)])
def test_logits_equal_fastais_own(arch: str, blur: bool) -> None:
    theirs = fastais(arch, blur=blur)
    ours = build(arch, 24, blur=blur)
    assert set(ours.state_dict()) == set(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    assert_same(ours, theirs)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("arch", ["resnet50", "resnext50_32x4d"])
def test_logits_equal_fastais_own_over_bottlenecks(arch: str) -> None:
    theirs, ours = fastais(arch), build(arch, 24)
    ours.load_state_dict(theirs.state_dict())
    assert_same(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"self_attention": True}, {"self_attention": True}),
        pytest.param({"norm_type": NormType.Batch}, {"norm": "batch"}, marks=pytest.mark.slow),
        pytest.param({"norm_type": NormType.Weight, "blur": True}, {"blur": True}, marks=pytest.mark.slow),
        ({"norm_type": NormType.Instance}, {"norm": "instance"}),
        pytest.param(
            {"norm_type": NormType.Spectral, "self_attention": True}, {"self_attention": True}, marks=pytest.mark.slow
        ),
    ],
)
def test_every_variant_of_the_decoder_is_rebuilt(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    trained = fastais("resnet18", **theirs)
    plain = build("resnet18", 24, **ours)
    plain.load_state_dict(fold_norms(trained.state_dict()))
    sizes = SIZES[1:] if theirs.get("norm_type") is NormType.Instance else SIZES  # theirs needs more than 32 px
    assert_same(plain, trained, atol=1e-5, sizes=sizes)


def test_an_encoder_with_another_norm_is_torchvisions() -> None:
    """torchvision's ``norm_layer``: the card's ``encoder_norm`` rebuilds it."""
    theirs = models.resnet18(weights=None, norm_layer=lambda n: torch.nn.GroupNorm(32, n)).eval()
    encoder = build("resnet18", 5, encoder_norm="group").layers[0].eval()
    encoder.load_state_dict(dict(zip(encoder.state_dict(), theirs.state_dict().values(), strict=False)))
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        stem = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        features = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(stem))))
        assert float((encoder(x) - features).abs().max()) < 1e-5
