"""A class raster from anywhere names its own classes as far as it can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from aerialseg.errors import InputError
from aerialseg.legend import LandClass, Legend
from aerialseg.raster.cog import write_cog
from aerialseg.raster.palette import Palette, own_color, read_palette

PLACE = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)}


def drawn(path: Path, dtype: str = "uint8", colors: dict[int, tuple[int, ...]] | None = None) -> Path:
    values = np.array([[1, 2], [7, 7]], dtype)
    profile = {"driver": "GTiff", "count": 1, "height": 2, "width": 2, "dtype": dtype, **PLACE}
    with rasterio.open(path, "w", **profile) as file:
        file.write(values, 1)
        if colors:
            file.write_colormap(1, colors)
    return path


def beside(path: Path, band: str) -> None:
    text = f'<PAMDataset><PAMRasterBand band="1">{band}</PAMRasterBand></PAMDataset>'
    path.with_name(path.name + ".aux.xml").write_text(text, encoding="utf-8")


def test_our_own_class_raster_gives_its_legend_back(tmp_path: Path) -> None:
    legend = Legend(
        (LandClass(1, "Büsche & <Bäume>", (1, 2, 3)), LandClass(2, "roof", (4, 5, 6)), LandClass(7, "x", (0, 0, 9)))
    )
    write_cog(drawn(tmp_path / "c.tif"), tmp_path / "cog.tif", legend=legend, metadata={})
    assert read_palette(tmp_path / "cog.tif").legend([1, 2, 7]) == legend


def test_a_colour_table_gives_colours_to_the_values_that_occur(tmp_path: Path) -> None:
    path = drawn(tmp_path / "c.tif", colors={1: (255, 0, 0, 255), 7: (0, 0, 255, 255), 9: (9, 9, 9, 255)})
    legend = read_palette(path).legend([1, 7])
    assert legend == Legend((LandClass(1, "class 1", (255, 0, 0)), LandClass(7, "class 7", (0, 0, 255))))


def test_category_names_name_also_what_does_not_occur(tmp_path: Path) -> None:
    path = drawn(tmp_path / "c.tif")
    beside(path, "<CategoryNames><Category/><Category>water</Category><Category> roof </Category></CategoryNames>")
    legend = read_palette(path).legend([2, 7])
    assert legend.names == ("water", "roof", "class 7")
    assert len({entry.color for entry in legend}) == 3


def test_an_attribute_table_is_read_by_usage_or_by_the_names_of_its_columns(tmp_path: Path) -> None:
    path = drawn(tmp_path / "c.tif", "uint16")
    columns = [("VALUE", 0, 0), ("Count", 0, 1), ("Class_Name", 2, 0), ("Red", 1, 0), ("Green", 1, 0), ("Blue", 1, 0)]
    fields = "".join(
        f"<FieldDefn index='{i}'><Name>{name}</Name><Type>{kind}</Type><Usage>{usage}</Usage></FieldDefn>"
        for i, (name, kind, usage) in enumerate(columns)
    )
    rows = [(1, 10, "Evergreen", 0.2, 0.4, 1), (300, 5, "Water", 0, 0, 255)]
    table = "".join(
        f"<Row index='{i}'>" + "".join(f"<F>{cell}</F>" for cell in row) + "</Row>" for i, row in enumerate(rows)
    )
    beside(path, f"<GDALRasterAttributeTable>{fields}{table}</GDALRasterAttributeTable>")
    palette = read_palette(path)
    assert palette.names == {1: "Evergreen", 300: "Water"}
    assert palette.colors[300] == (0, 0, 255)
    assert palette.colors[1] == (51, 102, 255), "from 0 to 1"


def test_a_raster_that_says_nothing_gets_names_and_colours_that_differ(tmp_path: Path) -> None:
    legend = read_palette(drawn(tmp_path / "c.tif", "uint16")).legend(range(0, 2000, 13))
    assert legend.names[1] == "class 13"
    near = [(a.color, b.color) for a, b in zip(legend.classes, legend.classes[1:], strict=False)]
    assert min(sum(abs(x - y) for x, y in zip(a, b, strict=True)) for a, b in near) > 40


def test_colours_of_neighbouring_ids_are_far_apart() -> None:
    for value in range(100):
        assert sum(abs(a - b) for a, b in zip(own_color(value), own_color(value + 1), strict=True)) > 60


def test_one_name_for_several_values_is_told_apart_by_the_value() -> None:
    palette = Palette({1: "other", 2: "other", 3: "class 9", 4: "roof"})
    names = palette.legend([1, 2, 9]).names
    assert names[:2] == ("other (1)", "other (2)")
    assert len(set(names)) == 5


def test_the_name_of_nodata_is_no_class(tmp_path: Path) -> None:
    path = tmp_path / "c.tif"
    with rasterio.open(path, "w", driver="GTiff", count=1, height=1, width=2, dtype="uint8", nodata=0, **PLACE) as file:
        file.write(np.array([[0, 1]], np.uint8), 1)
    beside(
        path,
        "<NoDataValue>0</NoDataValue><CategoryNames><Category>none</Category><Category>a</Category></CategoryNames>",
    )
    assert read_palette(path).legend([1]).names == ("a",)


def test_what_is_no_geotiff_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "c.tif").write_text("<html>")
    with pytest.raises(InputError, match="HTML"):
        read_palette(tmp_path / "c.tif")
