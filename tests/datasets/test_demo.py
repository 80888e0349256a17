from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize

from aerialseg.datasets.demo import CLASSES, draw_demo, draw_scene
from aerialseg.datasets.demo_labels import OWN_NAMES
from aerialseg.datasets.drawn_labels import read_labels
from aerialseg.datasets.label_checks import check_labels
from aerialseg.errors import UsageError
from aerialseg.model.store import load_card

IDS = {name: number for number, name in enumerate(CLASSES)}


def test_the_same_seed_draws_the_same_scene_and_another_seed_another() -> None:
    one, same, other = (draw_scene(300, 200, IDS, seed) for seed in (7, 7, 8))
    assert np.array_equal(one.pixels, same.pixels)
    assert not np.array_equal(one.pixels, other.pixels)


@pytest.mark.slow
def test_the_whole_scene_shows_every_class() -> None:
    scene = draw_scene(1720, 1290, IDS)
    assert set(np.unique(scene.truth)) == {*IDS.values(), 255}


def test_truth_is_nodata_exactly_where_nothing_was_flown_over() -> None:
    scene = draw_scene(400, 300, IDS)
    assert np.array_equal(scene.truth == 255, ~scene.valid)
    assert not scene.pixels[:, ~scene.valid].any()


@pytest.mark.slow
def test_labels_lie_inside_one_class_of_the_scene(tmp_path: Path) -> None:
    _, path = draw_demo(tmp_path, width=500, height=400)
    labels = read_labels(tmp_path / "labels.gpkg")
    assert {"grass", "building"} <= set(labels.counts)
    legend = load_card(None).legend
    with rasterio.open(path) as file:
        for shape, name in zip(labels.geometries, labels.names, strict=True):
            inside = rasterize([shape], file.shape, transform=file.transform) == 1
            found = {OWN_NAMES[legend[int(number)].name] for number in np.unique(file.read(1)[inside])}
            assert found == {name}
    check_labels(labels)


def test_the_files_are_georeferenced_masked_and_alike(tmp_path: Path) -> None:
    ortho, truth = draw_demo(tmp_path / "new" / "demo", width=256, height=200)
    with rasterio.open(ortho) as image, rasterio.open(truth) as classes:
        assert image.crs == classes.crs == rasterio.CRS.from_epsg(32633)
        assert image.transform == classes.transform
        assert image.res == (0.035, 0.035)
        assert np.array_equal(image.dataset_mask() > 0, classes.read(1) != 255)
    with pytest.raises(UsageError, match="exists"):
        draw_demo(tmp_path / "new" / "demo", width=256, height=200)


@pytest.mark.parametrize("name", ["ortho.tif", "truth.tif"])
def test_neither_file_is_drawn_over_unless_told_to(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=rf"{name} exists: add --overwrite"):
        draw_demo(tmp_path, width=128, height=100)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]
    assert all(
        rasterio.open(path).shape == (100, 128) for path in draw_demo(tmp_path, width=128, height=100, overwrite=True)
    )


def test_a_scene_too_small_to_draw_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="10 x 200"):
        draw_scene(10, 200, IDS)
