"""exact is the default everywhere; what cannot be exact is refused by name and runs when told to approximate."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from aerialseg import segment
from aerialseg.cli import cli
from aerialseg.errors import ModelError, UsageError
from aerialseg.model.card import APPROXIMATE_HALO, ModelCard
from aerialseg.model.folders import CARD
from aerialseg.model.predictor import resolve
from aerialseg.model.store import load_card, save
from tests.conftest import WriteRaster, land_cover
from tests.fakes import Oracle, with_halo
from tests.model.nets import card, legend, lively_network

ATTENTION = r"layers\.5\.conv2\.2 \(SelfAttention\)"


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = lively_network()
    folder = tmp_path_factory.mktemp("exact")
    save(folder, card(network, gsd_m=0.1), network.state_dict())
    return folder


@pytest.fixture(scope="module")
def attentive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = lively_network(self_attention=True)
    described = card(network, gsd_m=0.1)
    described = replace(described, architecture=replace(described.architecture, self_attention=True))
    folder = tmp_path_factory.mktemp("attentive")
    save(folder, described, network.state_dict())
    return folder


@pytest.fixture
def ortho(write_raster: WriteRaster) -> Path:
    return write_raster(land_cover(230, 170) * 30)


def metadata(path: Path) -> dict[str, str]:
    with rasterio.open(path) as file:
        return dict(file.tags())


def labels(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return np.asarray(file.read(1))


def test_row_19_a_model_that_cannot_be_exact_is_refused_with_the_layer_and_the_way_out(
    attentive: Path, ortho: Path
) -> None:
    with pytest.raises(ModelError, match=f"{ATTENTION} depends on the whole image at once.*--tiling approximate"):
        segment(ortho, ortho.parent / "map.gpkg", model=attentive, device="cpu")
    assert not (ortho.parent / "map.gpkg").exists()
    done = CliRunner().invoke(cli, ["segment", str(ortho), str(ortho.parent / "map.gpkg"), "--model", str(attentive)])
    assert done.exit_code == 4
    assert "SelfAttention" in done.stderr
    assert "--tiling approximate" in done.stderr


def test_row_19_told_to_approximate_it_runs_and_the_products_say_so(attentive: Path, ortho: Path) -> None:
    layer, classes = ortho.parent / "map.gpkg", ortho.parent / "classes.tif"
    arguments = ["--model", str(attentive), "--tiling", "approximate", "--raster", str(classes), "--device", "cpu"]
    done = CliRunner().invoke(cli, ["segment", str(ortho), str(layer), *arguments])
    assert done.exit_code == 0, done.output
    assert metadata(classes)["tiling"] == "approximate, halo 64 px"
    assert "expect seams" in done.stderr


@pytest.mark.slow
def test_exact_is_the_default_and_the_products_say_so(exact: Path, ortho: Path) -> None:
    classes = ortho.parent / "classes.tif"
    result = segment(ortho, ortho.parent / "map.gpkg", model=exact, raster=classes, device="cpu")
    assert metadata(classes)["tiling"] == "exact"
    assert result.plan.to_json()["settings"]["tiling"] == "exact"
    assert result.plan.grid.halo == 256


@pytest.mark.slow
def test_an_exact_model_may_be_run_with_a_smaller_halo_and_that_is_another_plan(exact: Path, ortho: Path) -> None:
    """Blocks of 64 px with no halo at all: seams show in the labels."""
    both = {}
    for name, options in (("exact", {}), ("approximate", {"tiling": "approximate:0"})):
        classes = ortho.parent / f"{name}.tif"
        result = segment(
            *(ortho, ortho.parent / f"{name}.gpkg"), model=exact, raster=classes, device="cpu", block_px=64, **options
        )
        both[name] = labels(classes), result.plan
    assert both["exact"][1].digest != both["approximate"][1].digest
    assert both["approximate"][1].tiling == "approximate, halo 0 px"
    assert (both["exact"][0] != both["approximate"][0]).mean() > 0.01


@pytest.mark.long
@pytest.mark.slow
def test_eight_looks_are_another_plan_say_so_in_the_products_and_leave_no_seams(exact: Path, ortho: Path) -> None:
    """Blocks of 64 px and one block give the same labels, which are not those of a single look."""
    made = {}
    for name, options in (("once", {}), ("blocks", {"tta": True, "block_px": 64}), ("whole", {"tta": True})):
        classes = ortho.parent / f"{name}.tif"
        plan = segment(
            *(ortho, ortho.parent / f"{name}.gpkg"),
            model=exact,
            raster=classes,
            device="cpu",
            precision="fp32",
            **options,
        ).plan
        made[name] = labels(classes), plan, metadata(classes)["numerics"]
    assert (made["blocks"][0] != made["whole"][0]).mean() < 1e-3, "ties alone"
    assert (made["once"][0] != made["whole"][0]).mean() > 0.01
    assert made["once"][1].digest != made["whole"][1].digest
    assert made["once"][2] + ", mean of 8 turns" == made["whole"][2] == made["blocks"][2]
    again = pickle.loads(pickle.dumps(resolve(exact, device="cpu", tta=True)))
    assert again.numerics.endswith("mean of 8 turns")
    assert again != resolve(exact, device="cpu")


@pytest.mark.slow
def test_approximate_tiles_lie_on_the_lattice_and_are_never_pulled_back(exact: Path) -> None:
    spec = resolve(exact, device="cpu", tiling="approximate:33")
    assert spec.card.halo == 64
    again = pickle.loads(pickle.dumps(spec))
    assert again == spec
    assert again.load().card.halo == 64
    assert resolve(exact, device="cpu").load().card.halo == 256


def test_the_approximate_halo_is_the_cards_where_it_cannot_be_exact() -> None:
    wide = ModelCard(name="wide", legend=legend(), gsd_m=0.1, halo=608)
    assert wide.tiled("exact") is wide
    assert wide.tiled("approximate").halo == APPROXIMATE_HALO
    assert replace(wide, halo=96).tiled("approximate").halo == 96
    assert replace(wide, halo=640, exact=False).tiled("approximate").halo == 640
    assert wide.tiled("approximate", 1000).halo == 1024
    assert not wide.tiled("approximate").exact


def test_a_halo_with_exact_tiles_and_other_contradictions_are_usage_errors(exact: Path) -> None:
    described = load_card(exact)
    with pytest.raises(UsageError, match="halo of 64 px with exact tiles"):
        described.tiled("exact", 64)
    with pytest.raises(UsageError, match="halo of -1 px: wanted 0 or more"):
        described.tiled("approximate", -1)
    for wrong in ("blended", "approximate:much", "approximate:"):
        with pytest.raises(UsageError, match="wanted exact, approximate or approximate:PX"):
            resolve(exact, tiling=wrong)


def test_a_predictor_made_elsewhere_must_be_tiled_as_asked(ortho: Path) -> None:
    with pytest.raises(UsageError, match="set tiling and halo where you make the predictor"):
        segment(ortho, ortho.parent / "map.gpkg", model=Oracle(with_halo(640)), tiling="approximate")
    with pytest.raises(UsageError, match="no test-time augmentation"):
        segment(ortho, ortho.parent / "map.gpkg", model=Oracle(with_halo(640)), tta=True)
    with pytest.raises(ModelError, match="so its card says"):
        segment(ortho, ortho.parent / "map.gpkg", model=Oracle(replace(with_halo(64), exact=False)))


def test_a_card_that_promises_what_its_network_cannot_keep_is_refused(attentive: Path, tmp_path: Path) -> None:
    for path in attentive.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    values = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**values, "exact": True}))
    for tiling in ("exact", "approximate"):
        with pytest.raises(ModelError, match=f'{ATTENTION}.*set "exact" to false'):
            resolve(tmp_path, device="cpu", tiling=tiling)  # type: ignore[arg-type]


def test_such_a_card_is_not_even_written(tmp_path: Path) -> None:
    network = lively_network(norm="group")
    described = card(network, exact=True)
    described = replace(described, architecture=replace(described.architecture, norm="group"))
    with pytest.raises(ModelError, match=r"layers\.3\.0\.1 \(GroupNorm\)"):
        save(tmp_path / "model", described, network.state_dict())
    assert not (tmp_path / "model").exists()
