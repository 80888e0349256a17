"""Faults 6, 7 and 9: VRT mosaics and tile indexes lead nowhere and fill no memory."""

from __future__ import annotations

import os
from pathlib import Path

import geopandas
import pytest
import shapely

from tests.faults.test_sidecars import ADDRESS, SIDE, ortho_raster, run, run_traced

RECT = f'xOff="0" yOff="0" xSize="{SIDE}" ySize="{SIDE}"'
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


def source(name: object, *, relative: int = 1, more: str = "", kind: str = "SimpleSource", band: int = 1) -> str:
    return (
        f'<{kind}><SourceFilename relativeToVRT="{relative}">{name}</SourceFilename><SourceBand>{band}</SourceBand>'
        f"<SrcRect {RECT}/><DstRect {RECT}/>{more}</{kind}>"
    )


def mosaic(inside: str, *, attributes: str = "", band: str = "", before: str = "") -> str:
    size = f'rasterXSize="{SIDE}" rasterYSize="{SIDE}" {attributes}'
    return f'{before}<VRTDataset {size}><VRTRasterBand band="1" {band}>{inside}</VRTRasterBand></VRTDataset>'


def hostile(outside: Path) -> dict[str, str]:
    """Name -> a VRT that leads to ``outside``, to an address, or to a script."""
    inner = mosaic(source(outside, relative=0))
    doctype = f'<!DOCTYPE x [<!ENTITY x SYSTEM "file://{outside}">]>'
    grids = f"PROJCS[&quot;x&quot;,EXTENSION[&quot;PROJ4_GRIDS&quot;,&quot;{outside}&quot;]]"
    script = f"<PixelFunctionLanguage>Python</PixelFunctionLanguage><PixelFunctionCode>open('{outside}')"
    return {
        "absolute": mosaic(source(outside, relative=0)),
        "up": mosaic(source("../outside.tif")),
        "up-and-down": mosaic(source("tiles/../../outside.tif")),
        "link": mosaic(source("outside-link.tif")),
        "link-to-folder": mosaic(source("outside-folder/outside.tif")),
        "curl": mosaic(source("/vsicurl/" + ADDRESS, relative=0)),
        "curl-relative": mosaic(source("/vsicurl/" + ADDRESS)),
        "http": mosaic(source(ADDRESS, relative=0)),
        "zip": mosaic(source(f"/vsizip/{outside}/a.tif", relative=0)),
        "subdataset": mosaic(source(f"GTIFF_DIR:1:{outside}", relative=0)),
        "vrt-scheme": mosaic(source(f"vrt://{outside}?bands=1", relative=0)),
        "xml-as-name": mosaic(source(inner.replace("<", "&lt;"))),
        "another-vrt": mosaic(source("outside.vrt")),
        "second-band": mosaic(source("a.tif")).replace(
            "</VRTDataset>",
            f'<VRTRasterBand band="2">{source(outside, relative=0, band=2)}</VRTRasterBand></VRTDataset>',
        ),
        "mask": mosaic(source("a.tif")).replace(
            "</VRTDataset>",
            f"<MaskBand><VRTRasterBand>{source(outside, band=0)}</VRTRasterBand></MaskBand></VRTDataset>",
        ),
        "derived": mosaic(f"<PixelFunctionType>x</PixelFunctionType>{script}</PixelFunctionCode>{source('a.tif')}"),
        "derived-class": mosaic(source("a.tif"), band='subClass="VRTDerivedRasterBand"'),
        "raw": mosaic(f"<SourceFilename>{outside}</SourceFilename>", band='subClass="VRTRawRasterBand"'),
        "warped": mosaic(source("a.tif"), attributes='subClass="VRTWarpedDataset"'),
        "warp-options": mosaic("").replace(
            "</VRTDataset>", f"<GDALWarpOptions><SourceDataset>{outside}</SourceDataset></GDALWarpOptions></VRTDataset>"
        ),
        "overview": mosaic(f"{source('a.tif')}<Overview><SourceFilename>{outside}</SourceFilename></Overview>"),
        "lut": mosaic(source("a.tif", kind="ComplexSource", more="<LUT>0:0,255:9</LUT>")),
        "filter": mosaic(source("a.tif", kind="KernelFilteredSource")),
        "array": mosaic(f"<ArraySource><SourceFilename>{outside}</SourceFilename></ArraySource>"),
        "options": mosaic(source("a.tif", more='<OpenOptions><OOI key="x">y</OOI></OpenOptions>')),
        "entity": mosaic(source("&x;"), before=doctype),
        "laughs": mosaic(source("&l9;"), before=f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]>'),
        "grid": mosaic(source("a.tif")).replace(
            "<VRTRasterBand", f"<SRS>{grids}</SRS><GeoTransform>0,1,0,0,0,-1</GeoTransform><VRTRasterBand", 1
        ),
        "no-crs": mosaic(source("a.tif")).replace(
            "<VRTRasterBand", f"<SRS>{outside}</SRS><GeoTransform>0,1,0,0,0,-1</GeoTransform><VRTRasterBand", 1
        ),
        "nothing": mosaic(""),
        "nan": mosaic(source("a.tif").replace(f'xSize="{SIDE}"', 'xSize="nan"')),
        "no-xml": "<VRTDataset",
        "ogr": f"<OGRVRTDataSource><SrcDataSource>{outside}</SrcDataSource></OGRVRTDataSource>",
    }


@pytest.mark.slow
def test_row_06_and_row_07_a_vrt_mosaic_leads_nowhere(tmp_path: Path) -> None:
    outside, inside = ortho_raster(tmp_path / "outside.tif"), tmp_path / "in"
    ortho_raster(inside / "a.tif")
    (inside / "tiles").mkdir()
    os.symlink(outside, inside / "outside-link.tif")
    os.symlink(tmp_path, inside / "outside-folder")
    (inside / "outside.vrt").write_text(mosaic(source("a.tif")))
    texts = hostile(outside)
    for name, text in texts.items():
        (inside / f"{name}.vrt").write_text(text)
    (inside / "utf-16.vrt").write_text(texts["entity"], encoding="utf-16")
    commands: list[list[object]] = [
        ["segment", inside / f"{name}.vrt", tmp_path / f"{name}.gpkg", "--resolution", "native"]
        for name in (*texts, "utf-16")
    ]
    ended, forbidden = run_traced(commands, tmp_path)
    assert not forbidden
    wrong = [(command[1], end) for command, end in zip(commands, ended, strict=True) if end.code != 3]
    assert not wrong
    assert not [end.said for end in ended if not end.said.splitlines()[-1].startswith("error: ")]
    assert not [end.said for end in ended if "a bug" in end.said]
    said = {Path(str(command[1])).stem: end.said for command, end in zip(commands, ended, strict=True)}
    assert all("document type declaration" in said[name] for name in ("entity", "laughs", "utf-16"))


@pytest.mark.slow
def test_row_07_a_tile_index_leads_to_no_address(tmp_path: Path) -> None:
    names = [ADDRESS, "/vsicurl/" + ADDRESS, f"/vsizip/vsicurl/{ADDRESS}/a.tif"]
    commands: list[list[object]] = []
    for number, name in enumerate(names):
        frame = geopandas.GeoDataFrame({"location": [name]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326)
        frame.to_file(tmp_path / f"{number}.gpkg")
        commands.append(["segment", tmp_path / f"{number}.gpkg", tmp_path / f"{number}.fgb"])
    ended, forbidden = run_traced(commands, tmp_path)
    assert not forbidden
    assert [end.code for end in ended] == [3] * 3


@pytest.mark.slow
def test_row_09_a_huge_vrt_is_refused_at_once(tmp_path: Path) -> None:
    ortho_raster(tmp_path / "a.tif")
    attributes = " ".join(f"a{number}='x'" for number in range(2_000_000))
    texts = {
        "many": mosaic("<SimpleSource/>" * 1_000_000),
        "attributes": mosaic(source("a.tif"), attributes=attributes),
        "long": mosaic(source("a" * (31 << 20))),
        "big": mosaic(source("a.tif") + " " * (33 << 20)),
        "deep": mosaic("<Metadata>" + "<a>" * 900_000 + "</a>" * 900_000 + "</Metadata>" + source("../a.tif")),
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.vrt").write_text(text)
    ended = run([["segment", tmp_path / f"{name}.vrt", tmp_path / f"{name}.gpkg"] for name in texts])
    assert [end.code for end in ended] == [3] * len(texts)
    assert max(len(end.said) for end in ended) < 1000
    assert max(end.seconds for end in ended) < 10
    assert max(end.peak_kb for end in ended) < 500_000
