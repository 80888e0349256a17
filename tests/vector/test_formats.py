"""The layer in each format: the same polygons and attributes, whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from pyproj import Geod

from aerialseg.errors import OutputError, ResourceError, UsageError
from aerialseg.legend import NODATA
from aerialseg.vector import rows, writing
from aerialseg.vector.formats import ENDINGS, layer_files
from aerialseg.vector.layers import polygonize
from aerialseg.vector.writing import check_room
from tests.vector.drawn import LEGEND, blobs, noise, write

FILES = [ending for ending in ENDINGS if ending != ".gpkg"]
PROJECTED = [".gpkg", ".fgb", ".parquet"]


def read(path: Path, layer: str = "landcover") -> geopandas.GeoDataFrame:
    if path.suffix == ".parquet":
        return geopandas.read_parquet(path)
    return pyogrio.read_dataframe(path, layer=layer if path.suffix == ".gpkg" else None)


def in_order(frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    """FlatGeobuf's index puts polygons in the order of a Hilbert curve."""
    corner = frame.geometry.bounds
    order = np.lexsort([frame.class_id, corner.maxx, corner.maxy, corner.minx, corner.miny])
    return frame.iloc[order].reset_index(drop=True)


def made(folder: Path, ending: str, drawn: np.ndarray, *, rated: bool = True, **options: object) -> Path:
    classes = write(folder / "c.tif", drawn)
    percent = np.where(drawn == NODATA, NODATA, np.arange(drawn.size).reshape(drawn.shape) % 101)
    confidence = write(folder / "f.tif", percent) if rated else None
    output = folder / f"map{ending}"
    polygonize(classes, confidence, output, legend=LEGEND, **options)  # type: ignore[arg-type]
    return output


@pytest.mark.parametrize("ending", PROJECTED)
def test_every_format_holds_the_same_polygons_and_attributes(tmp_path: Path, ending: str) -> None:
    drawn = blobs(80, 90)
    wanted = in_order(read(made(tmp_path, ".gpkg", drawn)))
    found = in_order(read(made(tmp_path, ending, drawn)))
    assert found.crs == wanted.crs == "EPSG:32633"
    assert [one.wkb for one in found.geometry] == [one.wkb for one in wanted.geometry]
    for name in wanted.columns.drop("geometry"):
        assert found[name].tolist() == wanted[name].tolist(), name


def test_geojson_is_rfc_7946_and_tiles_the_ground(tmp_path: Path) -> None:
    drawn = blobs(80, 90)
    wanted = read(made(tmp_path, ".gpkg", drawn))
    path = made(tmp_path, ".geojson", drawn)
    text = json.loads(path.read_text(encoding="utf-8"))
    found = read(path)
    assert "crs" not in text
    assert found.class_name.tolist() == wanted.class_name.tolist()
    assert found.area_m2.tolist() == pytest.approx(wanted.area_m2.tolist())
    assert found.is_valid.all()
    assert shapely.is_ccw(shapely.get_exterior_ring(found.geometry.values)).all()
    assert shapely.coverage_is_valid(found.geometry.values)
    back = found.to_crs(32633)
    assert back.geometry.area.sum() == pytest.approx(wanted.geometry.area.sum(), rel=1e-4)
    assert back.geometry.hausdorff_distance(wanted.geometry).max() < 2e-4


def test_geoparquet_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = rows.make_polygons
    monkeypatch.setattr(rows, "make_polygons", lambda *given, **named: make(*given, **{**named, "batch": 300}))
    path = made(tmp_path, ".parquet", blobs(80, 90), metadata={"model": "default"})
    file = pq.ParquetFile(path)
    about = json.loads(file.metadata.metadata[b"geo"])
    column = about["columns"]["geometry"]
    assert (about["version"], about["primary_column"]) == ("1.1.0", "geometry")
    assert (column["encoding"], column["geometry_types"]) == ("WKB", ["Polygon"])
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 32633}
    assert column["covering"]["bbox"]["ymax"] == ["bbox", "ymax"]
    assert file.metadata.metadata[b"model"] == b"default"
    assert file.schema_arrow.field("area_m2").metadata[b"alias"].decode() == "Area (m²)"
    assert file.metadata.num_row_groups > 3
    assert {file.metadata.row_group(0).column(i).compression for i in range(4)} == {"ZSTD"}
    boxes = file.read(columns=["bbox"])["bbox"].to_pylist()
    frame = geopandas.read_parquet(path)
    assert np.allclose([list(box.values()) for box in boxes], frame.geometry.bounds.values, atol=0)
    part = frame.cx[:500_001, 4_999_999:]
    assert 0 < len(geopandas.read_parquet(path, bbox=tuple(part.total_bounds))) <= len(frame)


def test_without_crs_geoparquet_has_none(tmp_path: Path) -> None:
    classes = write(tmp_path / "c.tif", noise(5, 5), crs=None)
    polygonize(classes, None, tmp_path / "o.parquet", legend=LEGEND)
    assert geopandas.read_parquet(tmp_path / "o.parquet").crs is None


def test_flatgeobuf_has_an_index_and_says_where_it_comes_from(tmp_path: Path) -> None:
    path = made(tmp_path, ".fgb", blobs(80, 90), metadata={"model": "default"})
    about = pyogrio.read_info(path)
    assert about["capabilities"]["fast_spatial_filter"]
    assert about["features"] == len(read(path))
    assert about["layer_metadata"]["model"] == "default"


@pytest.mark.parametrize("ending", ENDINGS)
def test_nodata_alone_gives_an_empty_layer_of_the_same_fields(tmp_path: Path, ending: str) -> None:
    whole = read(made(tmp_path, ending, blobs(9, 9)))
    empty = read(made(tmp_path, ending, np.full((4, 5), NODATA, np.uint8), dissolve=True))
    assert len(empty) == 0
    if ending != ".geojson":  # which names fields in features only
        assert list(empty.columns) == list(whole.columns)
        assert empty.crs == whole.crs


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_confidence_is_null(tmp_path: Path, ending: str) -> None:
    frame = read(made(tmp_path, ending, blobs(9, 9), rated=False))
    assert frame.confidence.isna().all()
    assert frame.confidence_min.isna().all()


@pytest.mark.parametrize("ending", FILES)
def test_a_style_lies_beside_the_layer(tmp_path: Path, ending: str) -> None:
    output = made(tmp_path, ending, noise(9, 9), dissolve=True)
    names = {"c.tif", "f.tif", f"map{ending}", "map.qml", f"map_by_class{ending}", "map_by_class.qml"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert {path.name for path in layer_files(output, dissolve=True)} | {"c.tif", "f.tif"} == names
    assert "class 3" in (tmp_path / "map.qml").read_text(encoding="utf-8")


def test_an_unknown_ending_is_a_usage_error_that_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.gpkg, \.fgb, \.parquet or \.geojson"):
        made(tmp_path, ".shp", noise(3, 3))


@pytest.mark.parametrize("crs", [None, 'LOCAL_CS["somewhere",UNIT["metre",1]]'])
def test_geojson_needs_a_place_on_the_earth(tmp_path: Path, crs: str | None) -> None:
    classes = write(tmp_path / "c.tif", noise(3, 3), crs=crs)
    with pytest.raises(UsageError, match="longitude and latitude"):
        polygonize(classes, None, tmp_path / "o.geojson", legend=LEGEND)
    assert [path.name for path in tmp_path.iterdir()] == ["c.tif"]


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("step", ["features", "by_class", "finish"])
def test_interrupted_it_leaves_nothing_and_an_older_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, step: str
) -> None:
    made(tmp_path, ending, noise(9, 9), dissolve=True)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".tif"}

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if step == "finish":
        monkeypatch.setattr(writing, "move_into_place", interrupt)
    elif step == "features":
        monkeypatch.setattr(rows.Rows, "_add", interrupt)
    else:
        monkeypatch.setattr(shapely, "multipolygons", interrupt)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, ending, noise(8, 8), dissolve=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".tif"} == before


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
def test_given_the_time_it_is_byte_identical(tmp_path: Path, ending: str) -> None:
    from datetime import UTC, datetime

    when = datetime(2026, 11, 24, tzinfo=UTC)
    files = [made(tmp_path, ending, noise(20, 20), dissolve=True, timestamp=when).read_bytes() for _ in range(2)]
    assert files[0] == files[1]


FULL_DISK = """
    import resource, signal, sys
    from pathlib import Path
    from aerialseg.errors import OutputError
    from aerialseg.vector import layers
    from tests.vector.drawn import LEGEND
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    folder, ending, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    output = folder / f"o{ending}"
    layers.polygonize(folder / "c.tif", folder / "f.tif", output, legend=LEGEND)  # kernels and libraries are loaded
    for path in folder.glob("o*"):
        path.unlink()
    for share in (0.0, 0.3, 0.7, 0.99):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * share), resource.RLIM_INFINITY))
        try:
            layers.polygonize(folder / "c.tif", folder / "f.tif", output, legend=LEGEND)
        except OutputError as error:
            print("said:", error)
        assert sorted(path.name for path in folder.iterdir()) == ["c.tif", "f.tif"], share
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", FILES)
def test_row_21_a_full_disk_leaves_no_layer_of_any_format(tmp_path: Path, ending: str) -> None:
    """A limit on the file's size fails like a full disk, at its beginning, in the middle and close to its end."""
    size = made(tmp_path, ending, noise(60, 60)).stat().st_size
    for path in layer_files(tmp_path / f"map{ending}"):
        path.unlink()
    command = [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path), ending, str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if line.startswith("said: ") and f"o{ending}" in line]
    assert len(said) == 4, done.stdout + done.stderr


def test_row_21_what_does_not_fit_on_the_disk_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    output = tmp_path / "o.gpkg"
    check_room(output, 10, 1000, 100, dissolve=False)
    with pytest.raises(ResourceError, match="leave out --dissolve"):
        check_room(output, 10, 10**9, 10**8, dissolve=True)
    with pytest.raises(ResourceError, match="MB free"):
        check_room(output, 10, 10**14, 100, dissolve=False)
    with pytest.raises(OutputError, match="nowhere"):
        check_room(tmp_path / "nowhere" / "o.gpkg", 10, 10, 10, dissolve=False)


def test_perimeters_are_those_of_the_ellipsoid(tmp_path: Path) -> None:
    from affine import Affine

    geod = Geod(ellps="WGS84")
    places = {
        "EPSG:4326": Affine(2e-4, 0, 13.4, 0, -2e-4, 52.5),
        "EPSG:3857": Affine(20, 0, 1_491_636, 0, -20, 6_894_701),
        "EPSG:4258": Affine(0.3, 0, 179, 0, -0.2, 60),
    }
    for crs, transform in places.items():
        classes = write(tmp_path / "c.tif", blobs(60, 70), transform, crs)
        polygonize(classes, None, tmp_path / "o.gpkg", legend=LEGEND)
        frame = read(tmp_path / "o.gpkg")
        degrees = frame.to_crs(4326) if crs == "EPSG:3857" else frame
        true = [geod.geometry_length(one.boundary.segmentize(0.01)) for one in degrees.geometry]
        assert np.allclose(frame.perimeter_m, true, rtol=1e-6), crs


def test_perimeters_in_feet_and_in_pixels_of_known_size(tmp_path: Path) -> None:
    from affine import Affine

    drawn = np.array([[0, 0, 1], [0, 0, 1]], np.uint8)
    classes = write(tmp_path / "c.tif", drawn, Affine(10, 0, 6_000_000, 0, -10, 2_100_000), "EPSG:2227")
    polygonize(classes, None, tmp_path / "o.gpkg", legend=LEGEND)
    foot = 1200 / 3937
    assert read(tmp_path / "o.gpkg").perimeter_m.tolist() == pytest.approx([80 * foot, 60 * foot])
    classes = write(tmp_path / "c.tif", drawn, Affine(3, 0, 7, 0, -3, 9), None)
    polygonize(classes, None, tmp_path / "o.gpkg", legend=LEGEND, pixel_m=(0.25, 0.5))
    assert read(tmp_path / "o.gpkg").perimeter_m.tolist() == pytest.approx([2 * 0.5 + 2 * 1.0, 2 * 0.25 + 2 * 1.0])


@pytest.mark.slow
def test_open_files_do_not_pile_up(tmp_path: Path) -> None:
    def handles() -> int:
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    for ending in ENDINGS:
        made(tmp_path, ending, noise(5, 5))
    before = handles()
    for ending in ENDINGS * 3:
        made(tmp_path, ending, noise(5, 5))
    assert handles() <= before
