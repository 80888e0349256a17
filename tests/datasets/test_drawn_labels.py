"""Labels as people draw them become polygons of a legend, and what cannot be meant is said before it computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import pytest
import shapely

from aerialseg.datasets.class_colours import PALETTE, pick_colours
from aerialseg.datasets.drawn_labels import DrawnLabels, read_labels
from aerialseg.datasets.label_checks import check_labels
from aerialseg.datasets.label_layer import write_label_layer
from aerialseg.errors import InputError
from aerialseg.legend import LandClass, Legend
from tests.raster.drawing import UTM

SQUARES = [shapely.box(10 * n, 0, 10 * n + 8, 8) for n in range(4)]


def layer(folder: Path, geometries: list[Any] | None = None, **fields: list[Any]) -> Path:
    path = folder / "labels.gpkg"
    geopandas.GeoDataFrame(fields, geometry=geometries or SQUARES[: len(next(iter(fields.values())))], crs=UTM).to_file(
        path
    )
    return path


def labels(folder: Path, names: list[str], geometries: list[Any] | None = None) -> DrawnLabels:
    return read_labels(layer(folder, geometries, **{"class": names}))


@pytest.mark.parametrize("name", ["class", "Class_Name", "label", "landcover", "what"])
def test_the_field_of_the_class_is_found(tmp_path: Path, name: str) -> None:
    found = read_labels(layer(tmp_path, **{"height": [1.0, 2.0], name: ["roof", "road"]}))
    assert found.names == ("roof", "road")
    assert found.field == name


def test_several_fields_of_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"give --field, .*: who, what"):
        read_labels(layer(tmp_path, who=["a", "b"], what=["roof", "road"]))


def test_only_checked_features_of_a_corrected_map_count(tmp_path: Path) -> None:
    fields = {"class_id": [1, 1, 2], "class_name": ["roof", "roof", "road"], "confidence": [0.5, 0.5, 0.5]}
    found = read_labels(layer(tmp_path, **fields, checked=[True, False, True]))
    assert found.names == ("roof", "road")
    assert found.left_out == 1
    with pytest.raises(InputError, match="checked = true"):
        read_labels(layer(tmp_path, **fields, checked=[False, False, False]))
    with pytest.raises(InputError, match="map that segment-raster made"):
        read_labels(layer(tmp_path, **fields))


def test_a_checked_feature_of_two_classes_is_an_error(tmp_path: Path) -> None:
    fields = {"class_id": [1, 1, 1], "class_name": ["roof", "roof", "road"], "checked": [True, True, True]}
    with pytest.raises(InputError, match="feature 3 is roof by class_id, road by class_name"):
        read_labels(layer(tmp_path, **fields))


def test_points_and_lines_get_a_width(tmp_path: Path) -> None:
    shapes = [shapely.Point(5, 5), shapely.LineString([(0, 0), (10, 0)]), SQUARES[0]]
    found = labels(tmp_path, ["a", "b", "c"], shapes)
    assert found.thin == 2
    point, line, square = found.brought(UTM, 1.0, 2.0).geometries
    assert point.area == pytest.approx(3.14, rel=0.05)
    assert line.area == pytest.approx(20 + 3.14, rel=0.05)
    assert square.equals(SQUARES[0])


def test_colours_of_the_layers_style_are_kept(tmp_path: Path) -> None:
    legend = Legend((LandClass(0, "road", (1, 2, 3)), LandClass(1, "roof", (200, 100, 50))))
    write_label_layer(tmp_path / "styled.gpkg", SQUARES[:2], ["roof", "road"], legend, UTM)  # type: ignore[arg-type]
    assert read_labels(tmp_path / "styled.gpkg").legend() == legend


def test_classes_without_a_colour_get_one_that_no_other_has() -> None:
    names = sorted(["water", "river", "tree", "roof", "a", "b", *map(str, range(12))])
    found = pick_colours(names, {"a": PALETTE["blue"]})
    assert len({entry.color for entry in found}) == len(names)
    assert found.names == tuple(names)


def test_one_class_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="are of the class 'roof'"):
        check_labels(labels(tmp_path, ["roof", "roof"]))


def test_one_class_written_in_two_ways_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'Paved area' \(1 label\) and 'paved-area' \(2 labels\)"):
        check_labels(labels(tmp_path, ["paved-area", "Paved area", "roof", "paved-area"]))


def test_a_class_that_may_be_misspelt_is_said(tmp_path: Path) -> None:
    found = check_labels(labels(tmp_path, ["vehicle", "vehicle", "vehicel", "roof"]))
    assert any("'vehicel' (1 label) and 'vehicle' (2)" in sentence for sentence in found)


def test_one_polygon_of_two_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"features 1 \(roof\) and 2 \(road\) cover the same ground"):
        check_labels(labels(tmp_path, ["roof", "road"], [SQUARES[0], SQUARES[0]]))


def test_overlaps_and_classes_with_few_labels_are_said(tmp_path: Path) -> None:
    small = shapely.box(1, 1, 4, 4)
    found = check_labels(labels(tmp_path, ["grass", "roof"], [SQUARES[0], small]))
    assert any("1 grass under 2 roof" in sentence for sentence in found)
    assert any(sentence.startswith("few labels of grass (1), roof (1)") for sentence in found)


def test_features_without_a_class_are_counted_apart_from_those_without_a_tick(tmp_path: Path) -> None:
    found = read_labels(layer(tmp_path, **{"class": ["roof", "", None, "road"]}))
    assert found.names == ("roof", "road")
    assert (found.unnamed, found.left_out) == (2, 0)


def test_labels_off_the_imagery_are_not_counted(tmp_path: Path) -> None:
    found = labels(tmp_path, ["roof", "road", "roof", "road"]).within((0.0, 0.0, 15.0, 8.0))
    assert found.counts == {"roof": 1, "road": 1}
    assert len(found.geometries) == len(found.fids) == 2
