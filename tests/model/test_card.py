from dataclasses import replace
from pathlib import Path

import pytest

from aerialseg.errors import ModelError
from aerialseg.legend import Legend
from aerialseg.model.card import ModelCard
from tests.fakes import CARD


def test_a_written_card_reads_back_the_same(tmp_path: Path) -> None:
    card = replace(CARD, void=(0,), scores={"accuracy": 0.5}, lineage=("one", "two"))
    card.write(tmp_path / "card.json")
    assert ModelCard.read(tmp_path / "card.json") == card


def test_the_digest_changes_with_what_decides_the_labels_and_with_nothing_else() -> None:
    assert (
        replace(CARD, description="other words", scores={"accuracy": 1}, training={"history": []}).digest == CARD.digest
    )
    for change in (
        {"mean": (0.5, 0.5, 0.5)},
        {"halo": 96},
        {"void": (1,)},
        {"weights_sha256": "1" * 64},
        {"gsd_m": 0.2},
    ):
        assert replace(CARD, **change).digest != CARD.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gsd_m": 0.0}, "ground sampling distance"),
        ({"gsd_m": float("nan")}, "ground sampling distance"),
        ({"mean": (0.5,)}, "mean and std need 3"),
        ({"std": (1.0, 0.0, 1.0)}, "std at least"),
        ({"halo": 33}, "halo 33"),
        ({"void": (99,)}, r"\[99\]"),
        ({"void": tuple(range(6))}, "every class is void"),
    ],
)
def test_a_card_that_makes_no_sense_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        replace(CARD, **change)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "name": "x"}', "\x80"])
def test_a_file_that_is_no_card_is_a_model_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match="model card"):
        ModelCard.read(path)


def test_a_card_from_before_there_were_other_decoders_reads_as_the_plain_one() -> None:
    values = CARD.to_json()
    values["architecture"] = {"encoder": "resnet34", "decoder": "fastai-dynamic-unet", "blur": False}
    assert ModelCard.from_json(values) == CARD


def test_a_temperature_is_part_of_the_digest_and_a_card_without_one_keeps_its_own() -> None:
    values = CARD.to_json()
    del values["temperature"]
    assert ModelCard.from_json(values) == CARD
    assert replace(CARD, temperature=1.0).digest == CARD.digest
    assert len({replace(CARD, temperature=t).digest for t in (0.5, 1.0, 2.0)}) == 3


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_makes_no_sense_is_refused(temperature: float) -> None:
    with pytest.raises(ModelError, match="temperature"):
        replace(CARD, temperature=temperature)


def test_how_a_map_shows_the_classes_does_not_make_another_model() -> None:
    legend = Legend(tuple(replace(one, title=f"my {one.name}", map_color=(1, 2, one.id)) for one in CARD.legend))
    renamed = replace(CARD, legend=legend)
    assert renamed.digest == CARD.digest
    assert ModelCard.from_json(renamed.to_json()) == renamed
    assert renamed.map_legend.names[0] == f"my {CARD.legend.names[0]}"
