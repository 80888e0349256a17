"""FAULTS.md 24 and 25: what exists is not destroyed, and the input never is."""

import os
from pathlib import Path

import pytest

from aerialseg.errors import OutputError, UsageError
from aerialseg.mapping.outputs import Outputs


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "ortho.tif"
    path.write_bytes(b"an orthophoto")
    return path


def test_row_24_an_existing_output_needs_overwrite(tmp_path: Path, source: Path) -> None:
    (tmp_path / "map.fgb").write_bytes(b"old")
    with pytest.raises(UsageError, match=r"map\.fgb exists: add --overwrite"):
        Outputs.check(source, tmp_path / "map.fgb")
    assert Outputs.check(source, tmp_path / "map.fgb", overwrite=True).layer == tmp_path / "map.fgb"
    assert (tmp_path / "map.fgb").read_bytes() == b"old"


@pytest.mark.parametrize("how", ["itself", "symlink", "hard link", "dotted path"])
def test_row_24_the_input_is_never_an_output_even_with_overwrite(tmp_path: Path, source: Path, how: str) -> None:
    alias = tmp_path / "classes.tif"
    if how == "symlink":
        alias.symlink_to(source)
    elif how == "hard link":
        os.link(source, alias)
    elif how == "dotted path":
        alias = tmp_path / "sub" / ".." / "ortho.tif"
    else:
        alias = source
    with pytest.raises(UsageError, match="is the input itself"):
        Outputs.check(source, tmp_path / "map.gpkg", alias, overwrite=True)


@pytest.mark.parametrize(
    ("layer", "raster", "message"),
    [
        ("map.shp", None, r"must end in \.gpkg"),
        ("map.gpkg", "classes.png", r"must end in \.tif"),
        ("folder.gpkg", None, "is a directory"),
    ],
)
def test_a_name_that_cannot_be_meant_is_a_usage_error(
    tmp_path: Path, source: Path, layer: str, raster: str | None, message: str
) -> None:
    (tmp_path / "folder.gpkg").mkdir()
    with pytest.raises(UsageError, match=message):
        Outputs.check(source, tmp_path / layer, tmp_path / raster if raster else None)


def test_two_outputs_cannot_share_a_name(tmp_path: Path, source: Path) -> None:
    with pytest.raises(UsageError, match="same name"):
        Outputs.check(source, tmp_path / "map.gpkg", tmp_path / "a.tif", tmp_path / "sub" / ".." / "a.tif")


def test_a_missing_folder_is_an_output_error(tmp_path: Path, source: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere of output map\.gpkg does not exist"):
        Outputs.check(source, tmp_path / "nowhere" / "map.gpkg")


def test_row_27_a_layer_that_is_open_elsewhere_is_not_replaced(tmp_path: Path, source: Path) -> None:
    (tmp_path / "map.gpkg").write_bytes(b"old")
    (tmp_path / "map.gpkg-shm").write_bytes(b"")
    with pytest.raises(OutputError, match="open in another program"):
        Outputs.check(source, tmp_path / "map.gpkg", overwrite=True)


def test_a_confidence_raster_has_its_style_beside_it_unless_the_layers_has_that_name(tmp_path: Path) -> None:
    def names(layer: str) -> set[str]:
        source = tmp_path / "ortho.tif"
        outputs = Outputs.check(source, tmp_path / layer, confidence=tmp_path / "map.tif")
        return {path.name for path in outputs.paths}

    assert names("map.gpkg") == {"map.gpkg", "map.tif", "map.qml"}
    assert names("map.fgb") == {"map.fgb", "map.tif", "map.qml"}
    assert names("other.fgb") == {"other.fgb", "other.qml", "map.tif", "map.qml"}
