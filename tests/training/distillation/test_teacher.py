"""A teacher is trained, kept in one file and followed: a network that is shown no right masks learns from it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open

from aerialseg.errors import ModelError, OutputError, UsageError
from aerialseg.legend import LandClass, Legend
from aerialseg.model.folders import embedded
from aerialseg.model.store import load_whole_card
from aerialseg.model.tta import TURNS
from aerialseg.training import train
from aerialseg.training.checkpoint import read_checkpoint
from aerialseg.training.config import FollowConfig, TrainingConfig
from aerialseg.training.distillation.pyramid import WIDTH, Pyramid
from aerialseg.training.distillation.teacher import NAME, read_teacher
from aerialseg.training.distillation.teacher_loss import TeacherLoss, class_distance, hint_distance, mix_crops
from aerialseg.training.distillation.torchvision_encoders import bare_resnet
from aerialseg.training.growing.partial_unet import PartialUNet
from tests.drawn_frames import CONFIG, DRAWN
from tests.training.test_train import Heard, Killed, write_config

PYRAMID = CONFIG.replace("[augment]", '[decoder]\nkind = "pyramid"\n\n[augment]').replace("epochs = 6", "epochs = 10")
FOLLOWING = CONFIG.replace(
    "[augment]", "[follow]\nweight = 1.0\nhints = 0.5\nblend = 0.5\nlooks = 3\n\n[augment]"
).replace("epochs = 6", "stride = 8\nepochs = 2")


@pytest.fixture(scope="module")
def teacher(drawn_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    return train(write_config(drawn_data, folder, PYRAMID), drawn_data, folder / "teacher", keep_checkpoints=True)


@pytest.mark.long
@pytest.mark.slow
def test_a_teacher_learns_and_its_file_says_how(teacher: Path) -> None:
    kept = read_teacher(teacher, DRAWN)
    shares = [entry["share"] for entry in kept.about["scores"]["per_class"].values()]
    assert kept.about["scores"]["pixel_accuracy"] > max(shares) + 0.05
    assert kept.about["training"]["config"]["decoder"]["kind"] == "pyramid"
    assert not (teacher / "card.json").exists()
    assert read_teacher(teacher / NAME, DRAWN).sha256 == kept.sha256


@pytest.mark.long
@pytest.mark.slow
def test_a_model_follows_its_teacher_goes_on_exactly_and_its_card_names_it(
    teacher: Path, drawn_data: Path, tmp_path: Path
) -> None:
    config = write_config(drawn_data, tmp_path, FOLLOWING)
    whole = train(config, drawn_data, tmp_path / "whole", teachers=[teacher, teacher], keep_checkpoints=True)
    for deadly in ("step 0, epoch 2", "step 1: frames"):
        with pytest.raises(Killed):
            train(config, drawn_data, tmp_path / "cut", teachers=[teacher, teacher], progress=Heard(deadly))
    with pytest.raises(UsageError, match="give --teacher DIR"):
        train(config, drawn_data, tmp_path / "cut")
    cut = train(config, drawn_data, tmp_path / "cut", teachers=[teacher, teacher], keep_checkpoints=True)
    mine, theirs = (read_checkpoint(folder / "training") for folder in (cut, whole))
    assert mine is not None
    assert theirs is not None
    assert all(torch.equal(mine.weights[name], tensor) for name, tensor in theirs.weights.items())
    told = load_whole_card(whole).training["teachers"]
    assert [one["sha256"] for one in told] == [read_teacher(teacher, DRAWN).sha256] * 2
    assert told[0]["scores"]["pixel_accuracy"] > 0
    assert not any(name.startswith("aside") for name in mine.weights)


@pytest.mark.slow
@pytest.mark.skipif(not embedded(), reason="no model is embedded in this checkout")
def test_a_model_as_teacher_hands_its_licence_and_lineage_on() -> None:
    card = load_whole_card("embedded")
    parent = read_teacher("embedded", card.legend).parent
    assert parent.licence == card.licence != ""
    assert parent.lineage == card.lineage != ()


@pytest.mark.long
@pytest.mark.slow
def test_another_teacher_does_not_go_on_with_the_run(teacher: Path, drawn_data: Path, tmp_path: Path) -> None:
    config = write_config(drawn_data, tmp_path, FOLLOWING)
    with pytest.raises(Killed):
        train(config, drawn_data, tmp_path / "out", teachers=[teacher], progress=Heard("step 0, epoch 2"))
    other = tmp_path / "other"
    other.mkdir()
    with safe_open(teacher / NAME, "pt") as file:
        about = json.loads(file.metadata()["teacher"])
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    from safetensors.torch import save_file

    save_file(weights, other / NAME, metadata={"teacher": json.dumps({**about, "name": "other"})})
    with pytest.raises(OutputError, match="another teacher"):
        train(config, drawn_data, tmp_path / "out", teachers=[other])


@pytest.mark.slow
def test_following_teaches_without_a_single_mask() -> None:
    """Gradients of the added distance alone lead the network to the teacher's classes."""
    torch.manual_seed(0)
    teacher, pupil = (Pyramid(bare_resnet("resnet18"), 4) for _ in range(2))
    with torch.no_grad():
        teacher.classifier[1].weight.mul_(20)
    follow = TeacherLoss([teacher], FollowConfig(weight=1.0))
    image = torch.randn(2, 3, 64, 64)
    optimizer, distances = torch.optim.Adam(pupil.parameters(), 1e-3), []
    for _ in range(12):
        follow.learn = SimpleNamespace(
            x=image, pred=pupil(image), model=pupil, loss_grad=torch.zeros(()), training=True
        )
        follow.after_loss()
        optimizer.zero_grad()
        follow.learn.loss_grad.backward()
        optimizer.step()
        distances.append(float(follow.learn.loss_grad))
    assert distances[-1] < 0.5 * distances[0]
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_loss_that_is_shown_and_the_watched_frames_do_not_know_the_teacher() -> None:
    follow = TeacherLoss([Pyramid(bare_resnet("resnet18"), 4)], FollowConfig(weight=1.0))
    follow.learn = SimpleNamespace(training=False, loss_grad=1.0)
    follow.after_loss()
    assert follow.learn.loss_grad == 1.0


def test_of_blended_crops_the_teacher_alone_says_what_they_show() -> None:
    """In a strided step; elsewhere, and where frames are watched, crops stay as they are and masks count."""
    torch.manual_seed(0)
    follow = TeacherLoss([Pyramid(bare_resnet("resnet18"), 4)], FollowConfig(weight=1.0, blend=1.0))
    image, pred = torch.randn(3, 3, 32, 32), torch.randn(3, 4, 32, 32)
    strided = object.__new__(PartialUNet)
    for model, training, blended in ((strided, True, True), (strided, False, False), (follow.teachers[0], True, False)):
        follow.learn = SimpleNamespace(
            xb=(image,), x=image, pred=pred, model=model, training=training, loss_grad=torch.tensor(1000.0)
        )
        follow.before_batch()
        assert torch.equal(follow.learn.xb[0], image) != blended
        if training:
            follow.learn.model = None  # a bare module has no hints
            follow.after_loss()
            assert (follow.learn.loss_grad < 1000) == blended


def test_one_look_without_blending_draws_no_random_number() -> None:
    follow = TeacherLoss([Pyramid(bare_resnet("resnet18"), 4)], FollowConfig(weight=1.0))
    follow.learn = SimpleNamespace(model=object.__new__(PartialUNet), training=True)
    before = random.getstate(), torch.get_rng_state()
    follow.before_batch()
    follow.learn.x, follow.learn.pred, follow.learn.loss_grad = torch.zeros(1, 3, 32, 32), torch.zeros(1, 4, 32, 32), 0
    follow.learn.model = None
    follow.after_loss()
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_a_blend_is_mostly_one_crop_and_never_leaves_what_both_show() -> None:
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mixed, ways = mix_crops(images), images.roll(1, dims=0) - images
    shares = ((mixed - images) * ways).sum((1, 2, 3)) / (ways**2).sum((1, 2, 3))
    assert torch.allclose(mixed, images + shares.view(-1, 1, 1, 1) * ways, atol=1e-5)
    assert -1e-6 <= float(shares.min()) < float(shares.max()) <= 0.5 + 1e-6
    assert shares.unique().numel() == 5
    assert torch.equal(mix_crops(images[:1]), images[:1])


def test_distances_are_nothing_where_both_say_the_same_and_grow_where_they_differ() -> None:
    logits = torch.randn(2, 4, 16, 16)
    assert float(class_distance(logits, [logits], 2.0)) == pytest.approx(0, abs=1e-6)
    assert float(class_distance(logits + 3, [logits], 2.0)) == pytest.approx(0, abs=1e-5)  # a shift says nothing
    assert float(class_distance(-logits, [logits], 2.0)) > 0.01
    hints = torch.randn(2, 8, 4, 4) * 7 + 3
    scaled = (hints - hints.mean((0, 2, 3), keepdim=True)) / hints.std((0, 2, 3), keepdim=True, correction=0)
    assert float(hint_distance(scaled, hints)) == pytest.approx(0, abs=1e-5)
    assert float(hint_distance(torch.zeros(2, 8, 4, 4), hints)) == pytest.approx(1, abs=1e-4)
    assert hint_distance(torch.zeros(2, 8, 8, 8), hints).ndim == 0


def test_the_distance_of_two_certain_answers_is_that_of_the_textbook() -> None:
    """One cell, two classes: KL(p || q) by hand, times the temperature squared."""
    said, wanted = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    wanted[:, 0] = 2.0
    p = torch.tensor([2.0 / 2, 0.0]).softmax(0)
    by_hand = float((p * (p / 0.5).log()).sum()) * 4
    assert float(class_distance(said, [wanted], 2.0)) == pytest.approx(by_hand, rel=1e-5)


def test_of_several_answers_the_mean_of_the_probabilities_is_followed() -> None:
    """One cell, two classes, of which one teacher is sure and another one not."""
    said, sure, unsure = (torch.zeros(1, 2, 4, 4) for _ in range(3))
    sure[:, 0] = 6.0
    mean = (torch.tensor([6.0, 0.0]).softmax(0) + 0.5) / 2
    by_hand = float((mean * (mean / 0.5).log()).sum())
    assert float(class_distance(said, [sure, unsure], 1.0)) == pytest.approx(by_hand, rel=1e-5)
    assert float(class_distance(mean.log().view(1, 2, 1, 1).expand(1, 2, 4, 4), [sure, unsure], 1.0)) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("teachers", [1, 2])
def test_more_looks_see_the_crops_in_all_their_flips_and_turns(teachers: int) -> None:
    """The first look is upright and the first teacher's; the second one is the last teacher's, turned at random."""
    torch.manual_seed(0)
    networks = [Pyramid(bare_resnet("resnet18"), 4).eval() for _ in range(teachers)]
    for network in networks:
        with torch.no_grad():
            network.classifier[1].weight.mul_(20)
    image, said = torch.randn(2, 3, 32, 64), torch.randn(2, 4, 32, 64)
    follow = TeacherLoss(networks, FollowConfig(weight=1.0, looks=2))
    with torch.inference_mode():
        upright = networks[0](image)
        turned = [turn.back(networks[-1](turn.ahead(image))) for turn in TURNS]
        wanted = {round(float(class_distance(said, [upright, look], 2.0)), 5) for look in turned}
    assert len(wanted) == 8
    found, state = set(), random.getstate()
    random.seed(1)
    for _ in range(60):
        follow.learn = SimpleNamespace(x=image, pred=said, model=None, loss_grad=torch.zeros(()), training=True)
        follow.after_loss()
        found.add(round(float(follow.learn.loss_grad), 5))
    random.setstate(state)
    assert found == wanted


def test_a_pyramid_answers_at_full_size() -> None:
    model = Pyramid(bare_resnet("resnet50", v1=True), 5).eval()
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        assert model(x).shape == (1, 5, 64, 96)
        assert model.hints(x).shape == (1, WIDTH, 8, 12)
    block = model.encoder.network.layer2[0]
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))


def test_what_is_no_teacher_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"no tensors")
    for path in (tmp_path, tmp_path / "nothing.safetensors"):
        with pytest.raises(ModelError, match="cannot read the teacher"):
            read_teacher(path, DRAWN)


@pytest.mark.long
@pytest.mark.slow
def test_a_teacher_of_other_classes_is_refused(teacher: Path) -> None:
    others = Legend((*tuple(DRAWN)[:-1], LandClass(3, "lava", (255, 80, 0))))
    with pytest.raises(ModelError, match="has other classes"):
        read_teacher(teacher, others)


@pytest.mark.long
@pytest.mark.slow
def test_a_teacher_that_learned_by_another_split_is_refused(teacher: Path, drawn_data: Path, tmp_path: Path) -> None:
    config = write_config(drawn_data, tmp_path, FOLLOWING)
    split = (tmp_path / "split.csv").read_text()
    (tmp_path / "split.csv").write_text(split.replace("000,0", "000,1"))
    with pytest.raises(UsageError, match="learned by another split"):
        train(config, drawn_data, tmp_path / "out", teachers=str(teacher))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            ('kind = "pyramid"', 'kind = "tower"'),
            "decoder.kind is 'tower'; wanted one of unet, light-unet, smp-unet, pyramid",
        ),
        (("epochs = 10", "epochs = 10\nstride = 8"), "no finer layers to leave out"),
        (("[decoder]", "[follow]\nweight = 1.0\n\n[decoder]"), "follows no teacher"),
        (("[decoder]", "[follow]\nweight = -1.0\n\n[decoder]"), "wanted weights of 0 or more"),
        (("[decoder]", "[follow]\nweight = 1.0\nlooks = 0\n\n[decoder]"), "follow.looks is 0; wanted 1 or more"),
    ],
)
def test_a_pyramid_that_cannot_be_is_a_usage_error(
    drawn_data: Path, tmp_path: Path, change: tuple[str, str], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        TrainingConfig.read(write_config(drawn_data, tmp_path, PYRAMID.replace(*change)))


def test_a_teacher_that_nobody_asked_for_is_a_usage_error(drawn_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="follows no teacher"):
        train(drawn_data / "train.toml", drawn_data, tmp_path / "out", teachers=[tmp_path])
