"""A fastai export becomes a model that says the same; no pickle is opened that nobody vouches for."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

from aerialseg.cli import cli
from aerialseg.errors import InputError, ModelError, UsageError
from aerialseg.legend import Legend
from aerialseg.mapping.settings import warn_of_old_name
from aerialseg.model.card import Architecture
from aerialseg.model.store import load_card, load_network
from aerialseg.training.conversion import origin as module
from aerialseg.training.conversion.convert import convert, find_architecture
from aerialseg.training.conversion.unpickle_process import Stub, open_pickle
from tests.drawn_frames import DRAWN
from tests.model.nets import lively_network, smooth_noise


@pytest.fixture
def legend(tmp_path: Path) -> Path:
    DRAWN.to_csv(tmp_path / "legend.csv")
    return tmp_path / "legend.csv"


class Bomb:
    """Whoever unpickles it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["export.pkl", "model.pth", "model.pt", "model.bin", "model.pickle"])
def test_no_pickle_is_opened_unless_somebody_vouches_for_it(tmp_path: Path, legend: Path, name: str) -> None:
    path, mark = tmp_path / name, tmp_path / "it ran"
    path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(ModelError, match="--i-trust-this-pickle"):
        convert(path, tmp_path / "out", legend=legend, gsd_m=0.05)
    if name in ("model.pth", "model.pt"):  # a bomb in torch's own format, too
        torch.save({"model": Bomb(mark)}, path)
        with pytest.raises(ModelError, match="--i-trust-this-pickle"):
            convert(path, tmp_path / "out", legend=legend, gsd_m=0.05)
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


def test_a_pickle_is_not_even_read_without_the_flag(
    tmp_path: Path, legend: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("opened")

    path = tmp_path / "export.pkl"
    path.write_bytes(b"anything")
    monkeypatch.setattr(torch, "load", never)
    monkeypatch.setattr(module, "_run_child", never)
    with pytest.raises(ModelError, match="it was not opened"):
        convert(path, tmp_path / "out", legend=legend, gsd_m=0.05)


def test_the_command_ends_with_4_and_names_the_flag(tmp_path: Path, legend: Path) -> None:
    path = tmp_path / "export.pkl"
    path.write_bytes(b"anything")
    arguments = ["model", "convert", str(path), str(tmp_path / "out"), "--legend", str(legend), "--pixel-size", "0.05"]
    found = CliRunner().invoke(cli, arguments)
    assert found.exit_code == 4
    assert "--i-trust-this-pickle" in found.stderr
    assert found.stdout == ""


@pytest.mark.slow
def test_the_pixel_size_by_its_old_name_warns(tmp_path: Path, legend: Path) -> None:
    warn_of_old_name.cache_clear()
    save_file(lively_network(classes=4).state_dict(), tmp_path / "w.safetensors")
    arguments = ["model", "convert", str(tmp_path / "w.safetensors"), str(tmp_path / "out"), "--legend", str(legend)]
    done = CliRunner().invoke(cli, [*arguments, "--gsd", "0.05"])
    assert done.exit_code == 0, done.stderr
    assert "warning: --gsd works until version 0.3: write --pixel-size" in done.stderr
    assert load_card(tmp_path / "out").gsd_m == 0.05
    assert CliRunner().invoke(cli, [*arguments, "--gsd", "0.05", "--pixel-size", "0.05"]).exit_code == 2


@pytest.mark.parametrize("kind", ["learn.save", pytest.param("state_dict", marks=pytest.mark.slow), "safetensors"])
def test_weights_alone_need_no_flag(tmp_path: Path, legend: Path, kind: str) -> None:
    network = lively_network(classes=4)
    state = network.state_dict()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({"model": state, "opt": {}} if kind == "learn.save" else state, path)
    convert(path, tmp_path / "out", legend=legend, gsd_m=0.1, void=(0,), licence="mine")
    card, loaded = load_network(tmp_path / "out")
    assert card.architecture == Architecture(encoder="resnet10-narrow")
    assert (card.void, card.gsd_m, card.licence, card.legend) == ((0,), 0.1, "mine", Legend.from_csv(legend))
    image = smooth_noise(1, 3, 64, 64)
    assert torch.equal(loaded(image), network(image))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"norm": "batch"}, {"norm": "instance"}, {"self_attention": True}])
def test_the_architecture_is_found_from_names_and_shapes(options: dict[str, Any]) -> None:
    network = lively_network(**options)
    assert find_architecture(network.state_dict(), 5) == Architecture(encoder="resnet10-narrow", **options)


def test_what_fits_no_network_is_refused_and_nothing_is_written(tmp_path: Path, legend: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"conv.weight": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match="DynamicUnet"):
        convert(path, tmp_path / "out", legend=legend, gsd_m=0.1)
    torch.save(lively_network(classes=5).state_dict(), path)
    with pytest.raises(ModelError, match="5 classes, the legend 4"):
        convert(path, tmp_path / "out", legend=legend, gsd_m=0.1)
    with pytest.raises(InputError, match="no file"):
        convert(tmp_path / "none.pth", tmp_path / "out", legend=legend, gsd_m=0.1)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_model_that_is_there_is_kept(tmp_path: Path, legend: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(lively_network(classes=4).state_dict(), path)
    convert(path, tmp_path / "out", legend=legend, gsd_m=0.1)
    with pytest.raises(UsageError, match="--overwrite"):
        convert(path, tmp_path / "out", legend=legend, gsd_m=0.2)
    assert load_card(tmp_path / "out").gsd_m == 0.1
    convert(path, tmp_path / "out", legend=legend, gsd_m=0.2, overwrite=True)
    assert load_card(tmp_path / "out").gsd_m == 0.2


def test_functions_of_the_notebook_are_stood_in_for(tmp_path: Path) -> None:
    """What ``get_y`` of a script's __main__ looks like in a pickle: a name that is not there any more."""
    path = tmp_path / "export.pkl"
    torch.save({"get_y": Stub}, path, pickle_protocol=0)
    import zipfile

    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(
                name, data.replace(b"caerialseg.training.conversion.unpickle_process\nStub\n", b"c__main__\nget_y\n")
            )
    opened, stubs = open_pickle(path)
    assert stubs == ["get_y"]
    assert opened["get_y"]()(7) == 7


def said_by(learner: Any, image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """(classes, probabilities) as learn.predict would give them."""
    with learner.no_bar():
        _, classes, probabilities = learner.predict(image)
    return torch.Tensor(classes), torch.Tensor(probabilities)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"blur": True, "self_attention": True}])
@pytest.mark.timeout(900)
def test_a_converted_export_predicts_as_its_learner(drawn_data: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    from fastai.vision.all import (
        CrossEntropyLossFlat,
        DataBlock,
        ImageBlock,
        MaskBlock,
        Normalize,
        get_image_files,
        imagenet_stats,
        unet_learner,
    )
    from torchvision import models

    def get_y(path: Path) -> Path:
        return drawn_data / "masks" / path.name

    block = DataBlock(
        blocks=(ImageBlock, MaskBlock(list(DRAWN.names))),
        get_items=get_image_files,
        get_y=get_y,
        batch_tfms=[Normalize.from_stats(*imagenet_stats)],
    )
    loaders = block.dataloaders(drawn_data / "images", bs=4, num_workers=0)
    torch.manual_seed(0)
    learner = unet_learner(
        loaders, models.resnet18, pretrained=False, normalize=False, loss_func=CrossEntropyLossFlat(axis=1), **options
    )
    for layer in learner.model.modules():
        if type(layer).__name__ == "SelfAttention":
            layer.gamma.data.fill_(0.7)  # which an untrained one does not use
    if not options:
        with learner.no_bar(), learner.no_logging():
            learner.fit(1, 1e-3)
    learner.path = tmp_path
    learner.export("export.pkl")
    DRAWN.to_csv(tmp_path / "legend.csv")
    given = ["--legend", str(tmp_path / "legend.csv"), "--pixel-size", "0.05", "--i-trust-this-pickle"]
    found = CliRunner().invoke(cli, ["model", "convert", str(tmp_path / "export.pkl"), str(tmp_path / "out"), *given])
    assert found.exit_code == 0, found.stderr
    assert found.stdout.split() == [str(tmp_path / "out")]

    card, network = load_network(tmp_path / "out")
    assert card.mean == pytest.approx(imagenet_stats[0])
    assert card.architecture.encoder == "resnet18"
    assert card.architecture.blur is options.get("blur", False)
    assert card.exact is not options.get("self_attention", False)
    image = np.array(Image.open(drawn_data / "images" / "003.png"))
    classes, probabilities = said_by(learner, image)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (card.mean, card.std))
    with torch.inference_mode():
        ours = network(((torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std)[None]).softmax(1)[0]
    assert float((ours - probabilities).abs().max()) < 1e-4
    assert (ours.argmax(0) == classes).float().mean() > 0.999


@pytest.mark.slow
def test_what_a_pickle_does_stays_in_the_child(tmp_path: Path, legend: Path) -> None:
    """With the flag it runs, but not here, and without this process's environment; what is no learner is refused."""
    path, mark = tmp_path / "export.pkl", tmp_path / "it ran"
    torch.save(Bomb(mark), path)
    with pytest.raises(ModelError, match="wanted a fastai learner"):
        convert(path, tmp_path / "out", legend=legend, gsd_m=0.05, trusted=True)
    assert mark.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_child_that_hangs_is_given_up(tmp_path: Path, legend: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sleeper:
        def __reduce__(self) -> Any:
            import time

            return time.sleep, (600,)

    monkeypatch.setattr(module, "TIMEOUT_S", 1)
    torch.save(Sleeper(), tmp_path / "export.pkl")
    with pytest.raises(ModelError, match="was not open after 1 s"):
        convert(tmp_path / "export.pkl", tmp_path / "out", legend=legend, gsd_m=0.05, trusted=True)
