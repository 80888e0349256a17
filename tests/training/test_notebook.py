"""docs/fastai.ipynb does what it says: its cells run in order, on drawn frames in the layout of the data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from aerialseg.legend import Legend
from aerialseg.model.store import load_card
from tests.drawn_frames import draw_pair

matplotlib.use("Agg")
ROOT = Path(__file__).parents[2]
FRAMES, SIDE, SMALL = 6, 96, "size, epochs, arch, tries = [64, 64], 1, 'resnet18', 8"
LEGEND = Legend.from_csv(ROOT / "configs" / "legends" / "semantic-drone.csv")


def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ROOT / "docs" / "fastai.ipynb").read_text(encoding="utf-8"))["cells"]
    return found


def test_the_notebook_holds_no_outputs() -> None:
    code = [cell for cell in cells() if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert [cell["metadata"].get("tags") for cell in code].count(["parameters"]) == 1


def draw_data(folder: Path) -> None:
    """Frames in the layout of the Semantic Drone Dataset."""
    for name in ("original_images", "label_images_semantic"):
        (folder / name).mkdir(parents=True)
    for number in range(FRAMES):
        image, mask = draw_pair(number, SIDE)
        Image.fromarray(image).save(folder / "original_images" / f"{number:03}.jpg", quality=95)
        Image.fromarray(mask).save(folder / "label_images_semantic" / f"{number:03}.png")
    rows = [f"{entry.name}, {', '.join(map(str, entry.color))}" for entry in LEGEND]
    (folder / "class_dict_seg.csv").write_text("\n".join(["name, r, g, b", *rows]) + "\n", encoding="utf-8")


@pytest.mark.slow
def test_its_cells_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's file of weights lies in its cache, as after a download; it holds random ones."""
    draw_data(tmp_path / "semantic_drone_dataset")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = tmp_path / "hub" / "checkpoints" / models.get_model_weights("resnet18").DEFAULT.url.rsplit("/", 1)[-1]
    weights.parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(models.resnet18().state_dict(), weights)
    names: dict[str, Any] = {}
    for cell in cells():
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"docs/fastai.ipynb, {cell['id']}", "exec"), names)
            if cell["metadata"].get("tags") == ["parameters"]:
                exec(SMALL, names)
    plt.close("all")
    assert np.isfinite(names["scores"].confusion.mean_iou)
    assert names["answer"].classes.shape == (64, 64)
    assert load_card("drone-model").legend.names == LEGEND.names
    parent = load_card("drone-model").weights_sha256[:16]
    assert parent in load_card("drone-model-larger").lineage[-1]
