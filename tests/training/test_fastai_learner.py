"""fastai's own Learner from a configuration: all of fastai works with it, and what it learned becomes a model."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch

import aerialseg
from aerialseg.errors import ModelError, UsageError
from aerialseg.legend import Legend
from aerialseg.model.folders import embedded
from aerialseg.model.networks import build
from aerialseg.model.store import load_card, load_network, save
from aerialseg.toml import read_toml
from aerialseg.training.conversion.convert import convert
from aerialseg.training.metrics import LabelledDice
from tests.drawn_frames import DRAWN

matplotlib.use("Agg")


class Answer:
    """What a metric looks at: two classes said, of which the second is wrong at a labelled pixel and at two of void."""

    def __init__(self, truth: list[int]) -> None:
        said = torch.tensor([0, 0, 1, 1, 1])
        self.pred = torch.nn.functional.one_hot(said, 2).float().T[None, :, None]
        self.y = torch.tensor(truth)[None, None]


def test_void_does_not_count_in_the_dice_that_is_shown() -> None:
    metric = LabelledDice()
    metric.reset()
    metric.accumulate(Answer([0, 0, 1, 255, 255]))
    assert metric.value == 1
    metric.accumulate(Answer([0, 0, 0, 255, 255]))
    assert metric.value == pytest.approx((2 * 4 / 9 + 2 * 1 / 3) / 2)


def values(drawn_data: Path, **steps: Any) -> dict[str, Any]:
    """The configuration of the drawn frames as a dict, with paths from anywhere."""
    found = dict(read_toml(drawn_data / "train.toml", "configuration"))
    data = {**found["data"], "legend": str(drawn_data / "legend.csv"), "split": str(drawn_data / "split.csv")}
    step = {"size": [64, 64], "epochs": 1, "batch": 4, "lr": 1e-3, **steps}
    return {**found, "data": data, "steps": [step], "encoder": {"arch": "resnet18", "start": "scratch"}}


@pytest.fixture(scope="module")
def learn(drawn_data: Path) -> Any:
    return aerialseg.learner(values(drawn_data), drawn_data)


@pytest.mark.long
@pytest.mark.slow
def test_all_of_fastai_works_with_it(learn: Any) -> None:
    from fastai.vision.all import SegmentationInterpretation

    learn.dls.show_batch(max_n=2)
    with learn.no_bar(), learn.no_logging():
        assert learn.lr_find(num_it=5, show_plot=False).valley > 0
        learn.fine_tune(1, 1e-3)
        learn.show_results(max_n=2)
        found = SegmentationInterpretation.from_learner(learn)
        found.plot_top_losses(k=2)
    assert np.isfinite(learn.recorder.values[-1]).all()


@pytest.mark.slow
def test_what_it_learned_is_a_model_and_goes_on_from_there(learn: Any, drawn_data: Path, tmp_path: Path) -> None:
    folder = aerialseg.save_model(learn, tmp_path / "model")
    images = learn.dls.valid.one_batch()[0].as_subclass(torch.Tensor)
    with torch.inference_mode():
        theirs, ours = learn.model.eval()(images), load_network(folder)[1](images)
    assert (theirs.argmax(1) == ours.argmax(1)).float().mean() > 0.99
    assert load_card(folder).legend.names == DRAWN.names
    with pytest.raises(UsageError, match="overwrite"):
        aerialseg.save_model(learn, folder)
    again = aerialseg.learner(values(drawn_data), drawn_data, model=folder)
    with torch.inference_mode():
        assert float((again.model.eval()(images) - ours).abs().max()) < 0.05 * float(ours.abs().max())
    child = load_card(aerialseg.save_model(again, tmp_path / "child"))
    assert load_card(folder).weights_sha256[:16] in child.lineage[-1]


@pytest.mark.long
@pytest.mark.slow
def test_convert_takes_what_learn_save_writes_after_a_real_fit(learn: Any, drawn_data: Path, tmp_path: Path) -> None:
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(1, 1e-3)
    learn.path = tmp_path
    file = tmp_path / "models" / "mine.pth"
    learn.save("mine")
    folder = convert(file, tmp_path / "out", legend=drawn_data / "legend.csv", gsd_m=0.05)
    images = learn.dls.valid.one_batch()[0].as_subclass(torch.Tensor)
    with torch.inference_mode():
        theirs, ours = learn.model.eval()(images), load_network(folder)[1](images)
    assert float((theirs - ours).abs().max()) < 1e-3 * float(theirs.abs().max())


@pytest.mark.skipif(not embedded(), reason="no model is embedded in this checkout")
def test_a_model_of_a_deeper_encoder_is_refused(drawn_data: Path) -> None:
    """A ResNet-18 has none but layers of a ResNet-34: half of the model would load without a word."""
    config = {**values(drawn_data), "decoder": {"kind": "light-unet"}}
    with pytest.raises(ModelError, match=r'is resnet34, .* resnet18: set \[encoder\] arch = "resnet34"'):
        aerialseg.learner(config, drawn_data, model="embedded")


@pytest.mark.slow
@pytest.mark.parametrize("foreign", ["blur", "self_attention"])
def test_a_model_with_layers_that_no_training_makes_is_refused(
    learn: Any, drawn_data: Path, tmp_path: Path, foreign: str
) -> None:
    """Its other layers would load without a word, and mean something else without these."""
    card = load_card(aerialseg.save_model(learn, tmp_path / "model"))
    architecture = replace(card.architecture, **{foreign: True})
    card = replace(card, architecture=architecture, exact=architecture.local)
    save(tmp_path / "other", card, build(classes=len(DRAWN), **asdict(card.architecture)).state_dict())
    with pytest.raises(ModelError, match=f"has {foreign}, which a training does not make"):
        aerialseg.learner(values(drawn_data), drawn_data, model=tmp_path / "other")


def test_a_learner_from_elsewhere_is_sent_to_convert(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="model convert"):
        aerialseg.save_model(object(), tmp_path / "model")


def test_a_configuration_may_be_a_dict(drawn_data: Path) -> None:
    from aerialseg.training.config import TrainingConfig

    config = TrainingConfig.of(values(drawn_data))
    assert Legend.from_csv(config.data.legend).names == DRAWN.names
    assert TrainingConfig.of(config) is config
    with pytest.raises(UsageError, match="the last step has a stride"):
        TrainingConfig.of(values(drawn_data, stride=8))
