"""A map is judged by every pixel that both know, once, whatever the truth's format, grid and legend."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aerialseg.errors import InputError
from aerialseg.evaluation.map_accuracy import Assessment, assess_map
from aerialseg.evaluation.scores import Confusion
from aerialseg.legend import LandClass, Legend
from aerialseg.model.store import load_card
from aerialseg.raster import classes as classes_module
from aerialseg.raster.cog import aux_path
from aerialseg.raster.palette import aux_xml
from tests.raster.drawing import UTM, write

LEGEND = Legend((LandClass(0, "grass", (0, 200, 0)), LandClass(2, "roof", (200, 0, 0))))
MAP = np.array([[0, 0, 2, 2], [0, 2, 2, 255]], np.uint8)
TRUTH = np.array([[0, 2, 2, 255], [0, 2, 0, 2]], np.uint8)


def raster(path: Path, ids: np.ndarray, legend: Legend | None = None, **profile: object) -> Path:
    write(path, ids[None], **{"nodata": 255, **profile})
    if legend is not None:
        aux_path(path).write_bytes(aux_xml(legend))
    return path


def check(found: Assessment) -> None:
    """What MAP and TRUTH say of each other, counted by hand."""
    counts = found.confusion.counts
    assert {(t, p): int(counts[t, p]) for t in (0, 2) for p in (0, 2)} == {(0, 0): 2, (0, 2): 1, (2, 0): 1, (2, 2): 2}
    assert counts.sum() == found.compared == 6
    assert (found.missed, found.untold) == (1, 1)


def test_scores_are_those_counted_by_hand(tmp_path: Path) -> None:
    found = assess_map(raster(tmp_path / "map.tif", MAP, LEGEND), raster(tmp_path / "truth.tif", TRUTH))
    check(found)
    assert found.legend == LEGEND
    assert found.area_m2 == pytest.approx(6 * 0.01, rel=1e-3)
    said = json.loads(json.dumps(found.to_json()))
    assert said["scores"]["per_class"]["roof"] == {"iou": 0.5, "dice": 0.6667, "share": 0.5}
    assert said["calibration"] is None


def test_polygons_and_a_class_raster_of_them_judge_alike(tmp_path: Path) -> None:
    made = raster(tmp_path / "map.tif", MAP, LEGEND)
    cells = [(row, col) for row in range(2) for col in range(4) if TRUTH[row, col] != 255]
    squares = [
        shapely.box(500_000 + 0.1 * c, 5_000_000 - 0.1 * (r + 1), 500_000 + 0.1 * (c + 1), 5_000_000 - 0.1 * r)
        for r, c in cells
    ]
    ids = [int(TRUTH[cell]) for cell in cells]
    frame = geopandas.GeoDataFrame({"id": ids, "cover": [LEGEND[i].name for i in ids]}, geometry=squares, crs=UTM)
    for path in (tmp_path / "truth.gpkg", tmp_path / "truth.shp"):
        frame.to_file(path, engine="pyogrio")
        check(assess_map(made, path, field="cover"))
        check(assess_map(made, path, field="id"))


def test_a_truth_on_another_grid_gives_its_nearest_pixels(tmp_path: Path) -> None:
    fine = np.kron(TRUTH, np.ones((3, 3), np.uint8))
    transform = Affine(0.1 / 3, 0, 500_000, 0, -0.1 / 3, 5_000_000)
    check(
        assess_map(raster(tmp_path / "map.tif", MAP, LEGEND), raster(tmp_path / "truth.tif", fine, transform=transform))
    )


def test_a_truth_in_another_crs_lies_on_the_map(tmp_path: Path) -> None:
    """ETRS89 / UTM 33N has the coordinates of WGS 84 / UTM 33N, to GDAL."""
    truth = raster(tmp_path / "truth.tif", TRUTH, crs="EPSG:25833")
    check(assess_map(raster(tmp_path / "map.tif", MAP, LEGEND), truth))


def test_classes_are_told_by_name_where_both_have_names(tmp_path: Path) -> None:
    other = Legend((LandClass(5, "roof", (1, 1, 1)), LandClass(2, "grass", (2, 2, 2))))
    swapped = np.select([TRUTH == 0, TRUTH == 2], [2, 5], 255).astype(np.uint8)
    check(assess_map(raster(tmp_path / "map.tif", MAP, LEGEND), raster(tmp_path / "truth.tif", swapped, other)))


def test_ids_count_where_the_map_has_no_names(tmp_path: Path) -> None:
    found = assess_map(raster(tmp_path / "map.tif", MAP), raster(tmp_path / "truth.tif", TRUTH, LEGEND))
    check(found)
    assert found.legend.names == ("class 0", "class 2")
    check(assess_map(tmp_path / "map.tif", tmp_path / "truth.tif", legend=LEGEND))


def test_a_class_of_the_truth_that_the_map_does_not_know_is_named(tmp_path: Path) -> None:
    made, odd = raster(tmp_path / "map.tif", MAP, LEGEND), TRUTH.copy()
    odd[0, 0] = odd[1, 3] = 9
    truth = raster(tmp_path / "truth.tif", odd)
    with pytest.raises(InputError, match=r"class '9', which the legend does not know; it knows: 0 grass, 2 roof"):
        assess_map(made, truth)
    found = assess_map(made, truth, ignore_unknown=True)
    assert found.ignored == {"9": 2}
    assert found.compared == 5


def test_a_class_of_the_map_that_its_legend_does_not_know_is_named(tmp_path: Path) -> None:
    legend = Legend((LandClass(0, "grass", (0, 0, 0)), LandClass(1, "roof", (1, 1, 1))))
    with pytest.raises(InputError, match="has the class 2, which is not in the legend"):
        assess_map(raster(tmp_path / "map.tif", MAP), raster(tmp_path / "truth.tif", TRUTH), legend=legend)


def test_a_truth_of_another_place_is_refused_with_both_extents(tmp_path: Path) -> None:
    made = raster(tmp_path / "map.tif", MAP, LEGEND)
    away = raster(tmp_path / "truth.tif", TRUTH, transform=Affine(0.1, 0, 600_000, 0, -0.1, 5_000_000))
    with pytest.raises(InputError, match=r"x 500000 to 500000\.4.*x 600000 to 600000\.4.*do not overlap"):
        assess_map(made, away)


def test_a_truth_without_a_class_where_the_map_has_one_is_refused(tmp_path: Path) -> None:
    made = raster(tmp_path / "map.tif", MAP, LEGEND)
    with pytest.raises(InputError, match="no pixel has a class in both"):
        assess_map(made, raster(tmp_path / "truth.tif", np.where(MAP == 255, 2, 255).astype(np.uint8)))


def test_the_confidence_is_counted_where_it_and_both_classes_are(tmp_path: Path) -> None:
    sure = np.array([[90, 90, 80, 10], [255, 80, 80, 70]], np.uint8)
    found = assess_map(
        raster(tmp_path / "map.tif", MAP, LEGEND),
        raster(tmp_path / "truth.tif", TRUTH),
        confidence=raster(tmp_path / "sure.tif", sure),
    )
    check(found)
    assert found.reliability is not None
    seen, right = found.reliability.seen, found.reliability.right
    assert {int(p): (int(seen[p]), int(right[p])) for p in np.flatnonzero(seen)} == {80: (3, 2), 90: (2, 1)}


def test_a_confidence_of_another_size_or_beyond_100_is_refused(tmp_path: Path) -> None:
    made, truth = raster(tmp_path / "map.tif", MAP, LEGEND), raster(tmp_path / "truth.tif", TRUTH)
    with pytest.raises(InputError, match="3 x 2 px: wanted 4 x 2"):
        assess_map(made, truth, confidence=raster(tmp_path / "small.tif", MAP[:, :3]))
    with pytest.raises(InputError, match="holds 200: wanted confidence in per cent"):
        assess_map(made, truth, confidence=raster(tmp_path / "loud.tif", np.full_like(MAP, 200)))


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(-8, 8), st.integers(-8, 8), st.integers(3, 17))
def test_windows_of_any_size_count_what_the_whole_counts(
    tmp_path: Path, height: int, width: int, down: int, right: int, window: int
) -> None:
    rng = np.random.default_rng(height * 41 + width)
    made, truth = (rng.choice(np.array([0, 1, 2, 255], np.uint8), (height, width)) for _ in range(2))
    truth[0, 0] = made[-1, -1] = made[0, 0] = truth[-1, -1] = 0
    down, right = max(-height + 1, min(down, height - 1)), max(-width + 1, min(right, width - 1))
    place = Affine(0.1, 0, 500_000 + 0.1 * right, 0, -0.1, 5_000_000 - 0.1 * down)
    moved = np.full((height, width), 255, np.uint8)
    moved[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = truth[
        max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
    ]
    both = (made != 255) & (moved != 255)
    paths = raster(tmp_path / "map.tif", made), raster(tmp_path / "truth.tif", truth, transform=place)
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(classes_module, "WINDOW_PX", window)
        if not both.any():
            with pytest.raises(InputError):
                assess_map(*paths)
            return
        found = assess_map(*paths)
    known = len(found.confusion.counts)
    assert (found.confusion.counts == Confusion.of(np.where(both, moved, 255), made, 255).counts[:known, :known]).all()
    assert found.compared == both.sum()
    assert (found.missed, found.untold) == (((moved != 255) & ~both).sum(), ((made != 255) & ~both).sum())


def test_groups_compare_ones_own_classes_with_those_of_the_map(tmp_path: Path) -> None:
    """The map says grass and roof, the truth lawn, grass and house: none of it is an error but one pixel."""
    made = raster(tmp_path / "map.tif", MAP, LEGEND)
    squares = [shapely.box(500_000 + 0.1 * c, 5_000_000 - 0.2, 500_000 + 0.1 * (c + 1), 5_000_000) for c in range(3)]
    frame = geopandas.GeoDataFrame({"class": ["lawn", "house", "green"]}, geometry=squares, crs=UTM)
    frame.to_file(tmp_path / "truth.gpkg")
    table = tmp_path / "groups.csv"
    table.write_text("class,group\ngrass,green\nlawn,green\nroof,building\nhouse,building\n")
    found = assess_map(made, tmp_path / "truth.gpkg", groups=table)
    assert found.legend.names == ("green", "building")
    assert found.confusion.counts.tolist() == [[2, 2], [1, 1]]
    table.write_text("class,group\ngrass,green\nlawn,green\nroof,\nhouse,building\n")
    assert assess_map(made, tmp_path / "truth.gpkg", groups=table).confusion.counts.tolist() == [[2, 0], [1, 0]]
    table.write_text("class,group\ngrass,green\nlawn,green\nhouse,building\n")
    with pytest.raises(InputError, match="has the class roof, which the groups do not name"):
        assess_map(made, tmp_path / "truth.gpkg", groups=table)


def test_groups_take_the_names_of_the_models_data_for_those_that_its_maps_show(tmp_path: Path) -> None:
    """The bundled model's maps say paved where its data says paved-area."""
    card = load_card(None)
    shown = Legend(tuple(entry for entry in card.map_legend if entry.name in ("paved", "roof")))
    made = raster(tmp_path / "map.tif", np.where(MAP == 0, *(np.uint8(entry.id) for entry in shown)), shown)
    with rasterio.open(made, "r+") as file:
        file.update_tags(model=card.name)
    true = Legend((LandClass(0, "road", (1, 1, 1)), LandClass(2, "roof", (2, 2, 2))))
    truth = raster(tmp_path / "truth.tif", MAP, true)
    for name in ("paved-area", "paved"):
        (tmp_path / "groups.csv").write_text(f"class,group\n{name},sealed\nroad,sealed\nroof,building\n")
        found = assess_map(made, truth, groups=tmp_path / "groups.csv")
        assert found.legend.names == ("sealed", "building")
        assert found.confusion.pixel_accuracy == 1
