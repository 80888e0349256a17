"""A temperature that is known is found again, and what is said of it was not fitted to what it is judged on."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aerialseg.errors import InputError
from aerialseg.evaluation.calibrate import (
    RANGE,
    calibrate,
    fit,
    fit_temperature,
    negative_log_likelihood,
    part_scenes,
    reliability,
)
from aerialseg.evaluation.samples import Samples, logits_at
from aerialseg.model.card import ModelCard
from aerialseg.model.store import load_card, load_whole_card, save
from tests.model.nets import card, lively_network, smooth_noise


def drawn(pixels: int, *, factor: float, seed: int = 0, classes: int = 5) -> Samples:
    """Truth drawn from softmax(logits): with ``factor`` 1 the confidence is right by construction."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(pixels, classes, generator=generator)
    truth = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return Samples(logits * factor, truth)


def any_card(**changes: object) -> ModelCard:
    return replace(card(lively_network(), halo=608), **changes)


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_factor_that_logits_were_scaled_by_is_the_temperature_found(factor: float) -> None:
    assert fit_temperature(drawn(40_000, factor=factor)) == pytest.approx(factor, rel=0.03)


def test_no_temperature_nearby_is_more_likely() -> None:
    samples = drawn(5_000, factor=2.0)
    found = fit_temperature(samples)
    losses = [negative_log_likelihood(samples, found * by) for by in (0.99, 1.0, 1.01)]
    assert losses[1] == min(losses)


def test_what_is_always_right_or_never_ends_at_the_border_of_the_range() -> None:
    logits = torch.tensor([[4.0, 0.0], [0.0, 4.0]]).repeat(50, 1)
    right = logits.argmax(1)
    assert fit_temperature(Samples(logits, right)) == pytest.approx(RANGE[0], rel=1e-3)
    assert fit_temperature(Samples(logits, 1 - right)) == pytest.approx(RANGE[1], rel=1e-3)


@pytest.mark.slow
def test_calibrating_mends_a_confidence_that_is_too_high() -> None:
    samples = {name: drawn(20_000, factor=3.0, seed=seed) for seed, name in enumerate("abcd")}
    found = fit(samples, any_card())
    assert found.temperature == pytest.approx(3.0, rel=0.03)
    assert found.before.expected_calibration_error > 0.1
    assert found.after.expected_calibration_error < 0.01
    assert found.after.seen.sum() == found.before.seen.sum() == 80_000
    assert found.after.right.sum() == found.before.right.sum(), "a temperature changes no label"


def test_each_half_is_judged_with_the_temperature_of_the_other() -> None:
    halves = {"a": drawn(8_000, factor=1.0), "b": drawn(8_000, factor=4.0, seed=1)}
    found = fit(halves, any_card())
    assert found.of_halves == pytest.approx((1.0, 4.0), rel=0.1)
    by_hand = reliability(halves["a"], any_card(), found.of_halves[1])
    by_hand += reliability(halves["b"], any_card(), found.of_halves[0])
    assert (found.after.seen == by_hand.seen).all()
    assert found.after.expected_calibration_error > found.before.expected_calibration_error


def test_a_temperature_that_does_not_help_elsewhere_stays_out_of_the_card() -> None:
    """One half is too sure of itself, the other not sure enough: what is right for one is wrong for the other."""
    found = fit({"a": drawn(20_000, factor=0.5), "b": drawn(20_000, factor=2.0, seed=1)}, any_card())
    assert not found.helps
    assert found.fitted != 1.0
    assert found.temperature == 1.0


@pytest.mark.slow
def test_void_classes_have_no_part_in_the_confidence() -> None:
    """Their logits, however high, count neither for the fit nor for what is reported."""
    plain = {name: drawn(20_000, factor=2.0, seed=seed) for seed, name in enumerate("ab")}
    loud = {n: Samples(torch.cat([s.logits, s.logits[:, :1] + 9], 1), s.truth) for n, s in plain.items()}
    reference = fit(plain, any_card())
    legend = card(lively_network(classes=6), halo=608).legend
    found = fit(loud, any_card(legend=legend, void=(5,)))
    assert found.temperature == pytest.approx(reference.temperature, rel=1e-3)
    assert (found.after.seen == reference.after.seen).all()


def test_no_scene_is_in_both_halves_and_both_have_frames() -> None:
    scenes = {f"{n:02}": str(n % 5) for n in range(23)}
    halves = part_scenes(list(scenes), scenes)
    assert sorted([*halves[0], *halves[1]]) == sorted(scenes)
    assert not {scenes[name] for name in halves[0]} & {scenes[name] for name in halves[1]}
    assert min(map(len, halves)) >= 8
    assert part_scenes(["d", "a", "c", "b"], {}) == (["a", "b"], ["c", "d"])
    with pytest.raises(InputError, match="two scenes"):
        part_scenes(["a", "b"], {"a": "1", "b": "1"})


def test_the_logits_are_those_of_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    network = lively_network()
    model = card(network)
    pixels = np.random.default_rng(0).integers(0, 256, (200, 150, 3), dtype=np.uint8)
    chosen = np.random.default_rng(1).random((200, 150)) < 0.1
    whole, where = logits_at(network, model, pixels, chosen)
    monkeypatch.setattr("aerialseg.evaluation.samples._BLOCK", 64)
    parts, elsewhere = logits_at(network, model, pixels, chosen)
    order, other = np.lexsort(where), np.lexsort(elsewhere)
    assert (np.transpose(where)[order] == np.transpose(elsewhere)[other]).all()
    assert len(whole) == chosen.sum()
    assert float((whole[order] - parts[other]).abs().max()) < 1e-4


@pytest.fixture
def held_out(tmp_path: Path) -> tuple[Path, dict[str, tuple[Path, Path]]]:
    """A model, and frames whose truth is what the model says at random with its own probabilities, cooled by 2.5."""
    network = lively_network()
    model = card(network, void=(0,))
    save(tmp_path / "model", model, network.state_dict(), torch.float32)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (model.mean, model.std))
    pairs, generator = {}, torch.Generator().manual_seed(3)
    for number in range(4):
        pixels = (((smooth_noise(1, 3, 96, 128, seed=number)[0] * std + mean) * 255).clamp(0, 255)).to(torch.uint8)
        logits = network((pixels / 255 - mean).div(std)[None])[0]
        logits[0] = -math.inf
        truth = torch.multinomial((logits / 2.5).flatten(1).softmax(0).T, 1, generator=generator).view(96, 128)
        truth[:8] = 0  # void
        paths = tmp_path / f"{number}.png", tmp_path / f"{number}-mask.png"
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(paths[0])
        Image.fromarray(truth.numpy().astype(np.uint8)).save(paths[1])
        pairs[str(number)] = paths
    return tmp_path / "model", pairs


def test_a_model_on_disk_is_calibrated_and_only_its_card_changes(
    held_out: tuple[Path, dict[str, tuple[Path, Path]]],
) -> None:
    folder, pairs = held_out
    before, weights = load_card(folder), (folder / "weights.safetensors").read_bytes()
    found = calibrate(folder, pairs, pixels=4_000)
    after = load_card(folder)
    assert after.temperature == found.temperature == pytest.approx(2.5, rel=0.08)
    assert (folder / "weights.safetensors").read_bytes() == weights
    assert replace(after, temperature=1.0, scores=before.scores) == before
    report = after.scores["calibration"]
    assert report["ece_after_cross_fitted"] < report["ece_before"] / 4
    curve = load_whole_card(folder).training["calibration"]["reliability"]
    assert report["pixels"] == sum(curve["seen"]) == 4 * 4_000
    json.dumps(report)


def test_calibrating_again_gives_the_same(held_out: tuple[Path, dict[str, tuple[Path, Path]]]) -> None:
    folder, pairs = held_out
    calibrate(folder, pairs, pixels=500)
    once = (folder / "card.json").read_bytes()
    calibrate(folder, pairs, pixels=500)
    assert (folder / "card.json").read_bytes() == once


def test_from_a_least_temperature_of_1_on_no_confidence_is_raised() -> None:
    modest = drawn(4000, factor=0.5)
    assert fit_temperature(modest) < 0.7
    assert fit_temperature(modest, least=1.0) == pytest.approx(1.0, abs=1e-4)
    bold = drawn(4000, factor=2.0)
    assert fit_temperature(bold, least=1.0) == pytest.approx(fit_temperature(bold), rel=1e-3)
