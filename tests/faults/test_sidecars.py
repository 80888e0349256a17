"""Faults 6, 7 and 9: what lies beside a raster, or in labels, leads nowhere and fills no memory."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

from aerialseg.errors import InputError
from aerialseg.raster.describe import describe
from aerialseg.raster.opening import gdal_environment, open_raster
from tests.raster.drawing import TEN_CM, TILED, UTM, picture, read_all, write

ROOT = Path(__file__).resolve().parents[2]
SIDE = 64
ADDRESS = "http://127.0.0.1:9/outside.tif"
LEGEND = "id,name,r,g,b\n1,grass,90,170,60\n2,roof,170,60,50\n"


class Ended(NamedTuple):
    code: int
    said: str
    seconds: float
    peak_kb: int


def run(commands: list[list[object]], *wrapper: str) -> list[Ended]:
    """How the commands end, one after the other in one process."""
    given = json.dumps([[str(word) for word in command] for command in commands])
    command = [*wrapper, sys.executable, "-m", "tests.faults.commands"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=ROOT, timeout=250, env=environ)
    assert done.returncode == 0, done.stderr[-3000:]
    return [Ended(*json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]


def run_traced(commands: list[list[object]], tmp_path: Path) -> tuple[list[Ended], list[str]]:
    """How the commands end, and what they did that they must not: files opened that are called outside, sockets."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (apt-get install strace)")
    if subprocess.run(["strace", "-f", "--seccomp-bpf", "true"], capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    log = tmp_path / "trace.log"
    calls = "trace=open,openat,openat2,connect,socket"
    ended = run(commands, "strace", "-f", "--seccomp-bpf", "-qq", "-s", "4096", "-e", calls, "-o", str(log))
    lines = log.read_text(errors="replace").splitlines()
    assert any("openat" in line for line in lines)
    return ended, [line for line in lines if re.search(r'outside[^/]*",|AF_INET|connect\(', line)]


def classes_raster(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.ones((1, SIDE, SIDE), np.uint8)
    values[:, :, SIDE // 2 :] = 2
    return write(path, values, nodata=255)


def ortho_raster(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, picture(SIDE, SIDE))


MASK_FLAGS = "".join(f'<MDI key="INTERNAL_MASK_FLAGS_{band}">2</MDI>' for band in (1, 2, 3))
"""Without these GDAL opens a mask, but does not read it."""


def vrt(target: object) -> str:
    return (
        f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><Metadata>{MASK_FLAGS}</Metadata>'
        f'<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename relativeToVRT="0">{target}'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )


def raw_vrt(target: object) -> str:
    return (
        f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><Metadata>{MASK_FLAGS}</Metadata>'
        f'<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand"><SourceFilename>{target}'
        "</SourceFilename></VRTRasterBand></VRTDataset>"
    )


def mrf(target: object) -> str:
    size = f"<Size x='{SIDE}' y='{SIDE}' c='1'/>"
    return f"<MRF_META><Raster>{size}<DataFile>{target}</DataFile></Raster></MRF_META>"


def wms(address: str) -> str:
    return f'<GDAL_WMS><Service name="TMS"><ServerUrl>{address}</ServerUrl></Service></GDAL_WMS>'


def tile_index(target: object) -> str:
    return f"<GDALTileIndexDataset><IndexDataset>{target}</IndexDataset></GDALTileIndexDataset>"


def beside(ending: str, text: Callable[[object], str], target: str = "{outside}") -> Callable[[Path, Path], None]:
    """What puts a text beside a raster; ``target`` is what the text points at."""

    def put(raster: Path, outside: Path) -> None:
        raster.with_name(raster.name + ending).write_text(text(target.format(outside=outside)))

    return put


def after_tiff(first: str, ending: str, text: Callable[[object], str] = vrt) -> Callable[[Path, Path], None]:
    """A TIFF mask or overviews, which has a hostile sidecar itself."""

    def put(raster: Path, outside: Path) -> None:
        write(raster.with_name(raster.name + first), np.full((1, SIDE, SIDE), 255, np.uint8))
        beside(first + ending, text)(raster, outside)

    return put


def overviews_named(raster: Path, outside: Path, *, ending: str = "") -> None:
    if ending:
        write(raster.with_name(raster.name + ending), np.full((1, SIDE, SIDE), 255, np.uint8))
    with rasterio.open(raster.with_name(raster.name + ending), "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(outside))


def erdas(raster: Path, _: Path) -> None:
    folder = raster.parent / "spilled"
    folder.mkdir()
    with rasterio.Env():
        write(folder / "outside.img", np.ones((1, SIDE, SIDE), np.uint8), driver="HFA", USE_SPILL="YES")
    (folder / "outside.img").rename(raster.with_suffix(".aux"))
    (folder / "outside.ige").rename(raster.with_name("outside.ige"))


def grid_file(raster: Path, outside: Path) -> None:
    """PROJ opens a datum grid as soon as GDAL reads the coordinate system."""
    datum = f'DATUM["x",SPHEROID["Bessel 1841",6377397.155,299.1528128],EXTENSION["PROJ4_GRIDS","{outside}"]]'
    geographic = f'GEOGCS["x",{datum},PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]]'
    given = (("latitude_of_origin", 0), ("central_meridian", 15), ("scale_factor", 0.9996), ("false_easting", 500000))
    parameters = ",".join(f'PARAMETER["{name}",{value}]' for name, value in (*given, ("false_northing", 0)))
    wkt = f'PROJCS["x",{geographic},PROJECTION["Transverse_Mercator"],{parameters},UNIT["metre",1]]'
    with rasterio.open(raster) as file:
        pixels = file.read()
    write(raster, pixels, crs=wkt, geotiff_keys_flavor="esri_pe")


def pipe(raster: Path, _: Path) -> None:
    os.mkfifo(raster.with_suffix(".tfw"))


def pam(text: str) -> Callable[[object], str]:
    return lambda target: f"<PAMDataset>{text.format(target=target)}</PAMDataset>"


OVERVIEW_FILE = '<Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{target}</MDI></Metadata>'
GRID_CRS = "<SRS>+proj=utm +zone=33 +ellps=bessel +nadgrids={target} +type=crs</SRS>"

LEADS_OUT = {
    "msk-vrt": beside(".msk", vrt),
    "msk-raw": beside(".msk", raw_vrt),
    "msk-mrf": beside(".msk", mrf),
    "msk-index": beside(".msk", tile_index),
    "msk-upper": beside(".MSK", vrt),
    "ovr-vrt": beside(".ovr", vrt),
    "msk-ovr": after_tiff(".msk", ".ovr"),
    "msk-msk": after_tiff(".msk", ".msk"),
    "msk-aux-grid": after_tiff(".msk", ".aux.xml", pam(GRID_CRS)),
    "ovr-msk": after_tiff(".ovr", ".msk"),
    "aux-xml": beside(".aux.xml", pam(OVERVIEW_FILE)),
    "aux-base": beside(".aux.xml", pam(OVERVIEW_FILE), ":::BASE:::outside"),
    "aux-grid": beside(".aux.xml", pam(GRID_CRS)),
    "aux-erdas": erdas,
    "tag": overviews_named,
    "tag-of-msk": lambda raster, outside: overviews_named(raster, outside, ending=".msk"),
    "grid": grid_file,
    "pipe": pipe,
}
SENDS = {
    "msk-vrt": beside(".msk", vrt, "/vsicurl/" + ADDRESS),
    "msk-vrt-plain": beside(".msk", vrt, ADDRESS),
    "msk-zip": beside(".msk", vrt, f"/vsizip/vsicurl/{ADDRESS}/a.tif"),
    "msk-wms": beside(".msk", wms, ADDRESS),
    "ovr-vrt": beside(".ovr", vrt, "/vsicurl/" + ADDRESS),
    "aux-xml": beside(".aux.xml", pam(OVERVIEW_FILE), "/vsicurl/" + ADDRESS),
    "aux-srs": beside(".aux.xml", pam("<SRS>+proj=longlat +nadgrids={target} +type=crs</SRS>"), ADDRESS),
}
ALL = {f"6 {name}": put for name, put in LEADS_OUT.items()} | {f"7 {name}": put for name, put in SENDS.items()}


def hostile(folder: Path, draw: Callable[[Path], Path], put: Callable[[Path, Path], None]) -> Path:
    """A raster with a sidecar that leads to ``outside`` in the folder, which is a raster as well."""
    raster = draw(folder / "in" / "a.tif")
    outside = classes_raster(folder / "outside")
    if not (raster.parent / "outside").exists():
        shutil.copy(outside, raster.parent / "outside")
    put(raster, outside)
    return raster


def commands_on(name: str, put: Callable[[Path, Path], None], tmp_path: Path) -> list[list[object]]:
    """Every command that reads a raster, each given one that has the hostile sidecar."""
    folder = tmp_path / name.replace(" ", "-")
    ortho = hostile(folder / "ortho", ortho_raster, put)
    classes = hostile(folder / "classes", classes_raster, put)
    good, good_ortho, legend = tmp_path / "good.tif", tmp_path / "ortho.tif", tmp_path / "legend.csv"
    return [
        ["segment", ortho, folder / "s.gpkg", "--resolution", "native"],
        ["polygonize", classes, folder / "p.gpkg"],
        ["polygonize", good, folder / "q.gpkg", "--confidence", classes],
        ["chips", ortho, good, "--legend", legend, "--out", folder / "chips"],
        ["chips", good_ortho, classes, "--legend", legend, "--out", folder / "chips2"],
        ["accuracy", classes, good, "--legend", legend],
        ["accuracy", good, classes, "--legend", legend],
    ]


def check_refused(ended: list[Ended], commands: list[list[object]]) -> None:
    wrong = [(command, end) for command, end in zip(commands, ended, strict=True) if end.code != 3]
    assert not wrong
    for command, end in zip(commands, ended, strict=True):
        assert end.said.splitlines()[-1].startswith("error: "), command
        assert "Traceback" not in end.said


def draw_good(tmp_path: Path) -> None:
    classes_raster(tmp_path / "good.tif")
    ortho_raster(tmp_path / "ortho.tif")
    (tmp_path / "legend.csv").write_text(LEGEND)


@pytest.mark.slow
def test_row_06_and_row_07_no_command_follows_what_lies_beside_a_raster(tmp_path):
    draw_good(tmp_path)
    commands = [command for name, put in ALL.items() for command in commands_on(name, put, tmp_path)]
    ended, forbidden = run_traced(commands, tmp_path)
    assert not forbidden
    check_refused(ended, commands)


@pytest.mark.slow
def test_row_06_and_row_07_batch_follows_nothing_beside_its_inputs(tmp_path):
    ortho_raster(tmp_path / "all" / "good.tif")
    for name, put in ALL.items():
        hostile(tmp_path / "all" / name.replace(" ", "-"), ortho_raster, put)
    (tmp_path / "job.toml").write_text(
        '[inputs]\nglob = "all/**/*.tif"\n[outputs]\nlayer = "out/{folder}/{stem}.gpkg"\n[retry]\ntimes = 0\n'
    )
    (ended,), forbidden = run_traced([["batch with a fake model", tmp_path / "job.toml"]], tmp_path)
    assert not forbidden
    assert ended.code == 1
    assert [path.name for path in (tmp_path / "out").rglob("*.gpkg")] == ["good.gpkg"]


@pytest.mark.slow
def test_row_06_and_row_07_collect_follows_nothing_beside_the_results(tmp_path):
    from aerialseg.batch.job import run_job
    from aerialseg.batch.jobfile import read_job
    from tests.fakes import Oracle

    ortho_raster(tmp_path / "in" / "a.tif")
    job = tmp_path / "job.toml"
    outputs = 'layer = "out/{stem}.gpkg"\nraster = "out/{stem}.tif"'
    job.write_text(f'[inputs]\nglob = "in/*.tif"\n[outputs]\n{outputs}\n[retry]\ntimes = 0\n')
    assert run_job(read_job(job), predictor=Oracle()).exit_code == 0
    outside = classes_raster(tmp_path / "outside")
    LEADS_OUT["msk-vrt"](tmp_path / "out" / "a.tif", outside)
    SENDS["ovr-vrt"](tmp_path / "out" / "a.tif", outside)
    commands: list[list[object]] = [["collect", job, "--mosaic", tmp_path / f"all.{end}"] for end in ("tif", "vrt")]
    ended, forbidden = run_traced(commands, tmp_path)
    assert not forbidden
    check_refused(ended, commands)


def layer_vrt(target: object) -> str:
    source = f'<OGRVRTLayer name="outside"><SrcDataSource>{target}</SrcDataSource></OGRVRTLayer>'
    return f"<OGRVRTDataSource>{source}</OGRVRTDataSource>"


def pipeline(target: object) -> str:
    line = f"gdal vector pipeline ! read {target} ! write --output-format stream streamed_dataset"
    return json.dumps({"type": "gdal_streamed_alg", "command_line": line})


def linked(crs: str) -> str:
    ring = [[[0, 0], [1, 0], [1, 1], [0, 0]]]
    feature = {"type": "Feature", "properties": {"class": 1}, "geometry": {"type": "Polygon", "coordinates": ring}}
    text = json.dumps({"type": "FeatureCollection", "features": [feature]})
    return f'{text[:-1]}, "crs": {crs}}}'


LINK = f'{{"type": "link", "properties": {{"href": "{ADDRESS}"}}}}'
LABELS = {
    "vrt.gpkg": layer_vrt,
    "vrt.geojson": layer_vrt,
    "braces.geojson": lambda target: "{" + layer_vrt(target),
    "vrt.fgb": lambda target: "fgb" + layer_vrt(target),
    "magic.fgb": lambda target: "fgb\3fgb\1" + layer_vrt(target),
    "vrt.shp": layer_vrt,
    "vrt.parquet": lambda target: "PAR1" + layer_vrt(target),
    "pipeline.geojson": pipeline,
    "pipeline-sends.geojson": lambda _: pipeline(ADDRESS),
    "link.geojson": lambda _: linked(LINK),
    "escaped.json": lambda _: linked(LINK.replace("link", "l\\u0069nk")),
    "quotes.json": lambda _: linked(LINK.replace('"', "'")),
}


@pytest.mark.slow
def test_row_06_and_row_07_labels_lead_nowhere(tmp_path):
    draw_good(tmp_path)
    outside = tmp_path / "outside.geojson"
    geopandas.GeoDataFrame({"class": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326).to_file(outside)
    commands: list[list[object]] = []
    for name, text in LABELS.items():
        (tmp_path / name).write_text(text(outside))
        options = ["--legend", tmp_path / "legend.csv"]
        commands.append(["chips", tmp_path / "ortho.tif", tmp_path / name, *options, "--out", tmp_path / f"{name}.d"])
        commands.append(["accuracy", tmp_path / "good.tif", tmp_path / name, *options])
    ended, forbidden = run_traced(commands, tmp_path)
    assert not forbidden
    check_refused(ended, commands)


def naming_a_grid(folder: Path, outside: Path) -> list[Path]:
    """Labels of each format whose coordinate system names a datum grid by its path."""
    grid = f"+proj=utm +zone=33 +ellps=bessel +nadgrids={outside} +type=crs"
    labels = geopandas.GeoDataFrame({"class": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs=32633)
    made = [folder / f"grid{ending}" for ending in (".shp", ".gpkg", ".fgb", ".parquet", ".geojson")]
    outside.touch()
    for path in made[:2]:
        labels.to_file(path)
    wkt = f'GEOGCS["x",DATUM["x",SPHEROID["x",6377397.155,299.15],EXTENSION["PROJ4_GRIDS","{outside}"]]]'
    made[0].with_suffix(".prj").write_text(wkt)
    with closing(sqlite3.connect(made[1])) as database, database:
        database.execute("UPDATE gpkg_spatial_ref_sys SET definition = ?", [wkt])
    labels.set_crs(grid, allow_override=True).to_parquet(made[3])
    labels.set_crs(grid, allow_override=True).to_file(made[2])
    made[4].write_text(linked(json.dumps({"type": "name", "properties": {"name": grid}}).replace("/", "\\u002F")))
    return made


@pytest.mark.slow
def test_row_06_labels_name_no_grid_file(tmp_path):
    draw_good(tmp_path)
    commands: list[list[object]] = []
    options = ["--legend", tmp_path / "legend.csv"]
    for path in naming_a_grid(tmp_path, tmp_path / "outside.gsb"):
        commands.append(["chips", tmp_path / "ortho.tif", path, *options, "--out", tmp_path / f"{path.name}.d"])
        commands.append(["accuracy", tmp_path / "good.tif", path, *options])
    ended, forbidden = run_traced(commands, tmp_path)
    assert not forbidden
    check_refused(ended, commands)
    assert all("by its path" in end.said or "by a file" in end.said for end in ended)


def test_row_06_labels_may_have_fields_of_the_values_that_links_have(tmp_path):
    from aerialseg.raster.features import open_features

    path = tmp_path / "roads.geojson"
    roads = geopandas.GeoDataFrame({"type": ["link", "url"]}, geometry=[shapely.box(0, 0, 1, 1)] * 2, crs=32633)
    roads.to_file(path)
    assert list(open_features(path, "type").values) == ["link", "url"]
    assert "32633" in str(open_features(path, "type").crs)


def repeated(start: str, one: str, times: int, end: str) -> str:
    return f"<PAMDataset>{start}{one * times}{end}</PAMDataset>"


def bombs() -> dict[str, str]:
    band = '<PAMRasterBand band="1">'
    column = '<FieldDefn index="0"><Name>v</Name><Type>0</Type></FieldDefn>'
    table, end = f"{band}<GDALRasterAttributeTable>{column}", "</GDALRasterAttributeTable></PAMRasterBand>"
    names = f"{band}<CategoryNames>", "</CategoryNames></PAMRasterBand>"
    attributes = " ".join(f"a{number}='x'" for number in range(1_100_000))
    return {
        "categories": repeated(names[0], "<Category>a</Category>", 2_000_000, names[1]),
        "rows": repeated(table, "<Row><F>1</F></Row>", 300_000, end),
        "points": repeated("<GCPList>", '<GCP Id="" Pixel="1" Line="1" X="1" Y="1"/>', 500_000, "</GCPList>"),
        "cells": repeated(table, f"<Row>{'<F>1</F>' * 100}</Row>", 20_000, end),
        "attributes": f"<PAMDataset {attributes}/>",
        "entities": '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]><PAMDataset>&a;</PAMDataset>',
        "cut": "<PAMDataset><Metadata>",
        "bytes": repeated("<Metadata>", " " * (64 << 20), 1, "</Metadata>"),
    }


@pytest.mark.slow
def test_row_09_a_sidecar_that_fills_the_memory_is_refused_at_once(tmp_path):
    commands: list[list[object]] = []
    for name, text in bombs().items():
        for draw in (classes_raster, ortho_raster):
            raster = draw(tmp_path / f"{name}-{draw.__name__}.tif")
            raster.with_name(raster.name + ".aux.xml").write_text(text)
            output = raster.with_suffix(".gpkg")
            commands.append(["polygonize" if draw is classes_raster else "segment", raster, output])
    raster = ortho_raster(tmp_path / "text.tif")
    with open(raster.with_suffix(".IMD"), "wb") as file:
        file.truncate(1 << 30)
    commands.append(["segment", raster, tmp_path / "text.gpkg"])
    raster = ortho_raster(tmp_path / "mask.tif")
    tiled = {"tiled": True, "blockxsize": 32768, "blockysize": 32768, "sparse_ok": True, "compress": "deflate"}
    with rasterio.open(raster) as file:
        profile = {**file.profile, **tiled, "count": 1}
    with rasterio.open(tmp_path / "mask.tif.msk", "w", **profile):
        pass
    commands.append(["segment", raster, tmp_path / "mask.gpkg"])
    ended = run(commands)
    check_refused(ended, commands)
    assert max(end.peak_kb for end in ended) < 500_000
    assert max(end.seconds for end in ended[1:]) < 5
    assert "<row>" in ended[2].said


@pytest.mark.parametrize(("key", "value"), [("INTERLEAVE", "BAND"), ("COMPRESSION", "foo"), ("NBITS", "abc")])
def test_row_09_a_sidecar_does_not_say_how_the_raster_is_stored(tmp_path, key, value):
    path = ortho_raster(tmp_path / "a.tif")
    text = f'<Metadata domain="IMAGE_STRUCTURE"><MDI key="{key}">{value}</MDI></Metadata>'
    path.with_name("a.tif.aux.xml").write_text(f"<PAMDataset>{text}</PAMDataset>")
    with pytest.raises(InputError, match=rf"a\.tif\.aux\.xml.*how the raster is stored \({key}\).*move"):
        describe(path)


def draw_mask(raster: Path, mask: np.ndarray) -> None:
    with rasterio.open(write(raster.with_name(raster.name + ".msk"), mask, **TILED), "r+") as file:
        file.update_tags(**{f"INTERNAL_MASK_FLAGS_{band}": "2" for band in (1, 2, 3)})


def test_row_06_sidecars_that_belong_to_the_raster_are_read_as_ever(tmp_path):
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = write(tmp_path / "a.tif", picture(200, 200), crs=None, transform=None, **TILED)
    a, b, c, d, e, f = TEN_CM[:6]
    numbers = (a, d, b, e, c + a / 2, f + e / 2)
    path.with_suffix(".tfw").write_text("\n".join(map(str, numbers)))
    path.with_name("a.tif.aux.xml").write_text(f"<PAMDataset><SRS>{UTM}</SRS></PAMDataset>")
    path.with_suffix(".IMD").write_text("BEGIN_GROUP = IMAGE_1\nEND_GROUP = IMAGE_1\nEND;\n")
    mask = np.full((1, 200, 200), 255, np.uint8)
    mask[:, :50] = 0
    draw_mask(path, mask)
    smaller = picture(200, 200)[:, ::2, ::2]
    write(path.with_name("a.tif.ovr"), np.ascontiguousarray(smaller), **TILED)
    info = describe(path)
    assert info.geo.transform == pytest.approx((a, b, c, d, e, f))
    assert info.geo.crs is not None
    assert "32633" in info.geo.crs
    _, valid = read_all(path)
    assert not valid[:50].any()
    assert valid[50:].all()
    with gdal_environment(), open_raster(str(path)) as dataset:
        assert dataset.overviews(1) == [2]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_row_06_a_mask_of_any_depth_is_read(tmp_path, dtype):
    path = write(tmp_path / "a.tif", picture(64, 64))
    mask = np.zeros((1, 64, 64), dtype)
    mask[:, :, 32:] = 255
    draw_mask(path, mask)
    _, valid = read_all(path)
    assert valid[:, 32:].all()
    assert not valid[:, :32].any()


def test_row_06_a_neighbour_of_the_same_beginning_has_its_own_sidecars(tmp_path):
    path = ortho_raster(tmp_path / "a.tif")
    other = ortho_raster(tmp_path / "a.1.tif")
    LEADS_OUT["msk-vrt"](other, tmp_path / "outside")
    assert read_all(path)[1].all()
