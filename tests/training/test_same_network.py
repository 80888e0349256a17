"""The plain network is fastai's DynamicUnet: same names, same numbers."""

from __future__ import annotations

import pytest
import torch

from aerialseg.model.unet import build
from aerialseg.training.torchvision_fix import mend_torchvision

mend_torchvision()
from fastai.vision.all import create_unet_model  # noqa: E402
from torchvision import models  # noqa: E402


@pytest.mark.parametrize(("arch", "blur"), [("resnet34", False), ("resnet18", True)])
def test_logits_equal_fastais_own(arch: str, blur: bool) -> None:
    torch.manual_seed(0)
    theirs = create_unet_model(getattr(models, arch), 24, (64, 64), pretrained=False, blur=blur)
    with torch.no_grad():
        theirs.train()(torch.randn(2, 3, 64, 64))  # so that BatchNorm has statistics
    ours = build(arch, 24, blur=blur)
    assert set(ours.state_dict()) == set(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    ours.eval()
    theirs.eval()
    with torch.inference_mode():
        for size in ((32, 32), (64, 96), (50, 77)):
            x = torch.randn(1, 3, *size)
            difference = (torch.Tensor(theirs(x)) - ours(x)).abs().max()
            assert float(difference) <= 1e-6, size
