"""What the product makes of known rasters, as digests: run before and after a change that should change nothing.

    python benchmarks/golden.py record before.json
    python benchmarks/golden.py record after.json
    python benchmarks/golden.py compare before.json after.json      # exit code 1 names what differs

Digested are, through the commands alone: class and confidence rasters (pixels, nodata, colours), every polygon (WKB
and attributes, in the file's order), the GeoPackage's styles, and a batch's report without its times, of the demo scene
and, where they lie beside the checkout, of the georeferenced rasters of ../shared/data.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyogrio
import rasterio

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "geo"
ORTHOS = (
    "ortho/deepforest-2018-sjer-3-252000-4107000-image-477.tif",
    "ortho/deepforest-5b90f92da0d7280005fab355-4310.tif",
    "ortho/deepforest-osbs-029.tif",
    "ortho/deepforest-test-tiled.tif",
    "ortho/qgis-plugin-deepness-dummy-fotomap-small.tif",
    "ortho/rasterio-alpha.tif",
    "ortho/rio-cogeo-image-rgb-mask.tif",
    "ortho/rio-cogeo-image-rgba.tif",
    "ortho/rio-tiler-colorado-alpha.tif",
    "ortho/rio-tiler-colorado-mask.tif",
    "ortho/rio-tiler-colorado-nodata.tif",
)
CLASS_RASTERS = ("classmaps/rio-tiler-cog-cmap.tif", "odd/odc-geo-au-3577.tif")
TIMES = {"began", "ended", "seconds", "stages", "work_s", "workers", "worker", "version", "run"}
"""Of a batch's report, what no two runs have in common (workers are named after processes)."""


def command(*words: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "aerialseg", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def digest(*parts: bytes | str) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part if isinstance(part, bytes) else part.encode())
    return whole.hexdigest()[:16]


def raster_digest(path: Path) -> str:
    with rasterio.open(path) as dataset:
        colours = dataset.colormap(1) if dataset.colorinterp[0].name == "palette" else {}
        place = f"{dataset.nodata} {dataset.transform} {dataset.crs} {colours}"
        return digest(dataset.read().tobytes(), place)


def layer_digests(path: Path) -> dict[str, str]:
    found = {}
    for layer, _ in pyogrio.list_layers(path):
        _, _, geometry, fields = pyogrio.raw.read(path, layer=layer)
        if geometry is not None:
            values = "".join(repr(column.tolist()) for column in fields)
            found[f"layer {layer}"] = digest(*geometry, values)
    with sqlite3.connect(path) as base:
        styles = base.execute("SELECT f_table_name, styleName, styleQML, styleSLD, useAsDefault FROM layer_styles")
        found["styles"] = digest(repr(styles.fetchall()))
    return found


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_times(one) for name, one in value.items() if name not in TIMES}
    if isinstance(value, list):
        return [without_times(one) for one in value]
    return value


def report_digest(path: Path, folder: Path) -> str:
    values = without_times(json.loads(path.read_text()))
    text = json.dumps(values, sort_keys=True).replace(str(folder), "")
    return digest(re.sub(r"in \d[\d.,]* \w+", "", text))


def map_digests(ortho: Path, folder: Path, *options: str) -> dict[str, str]:
    layer, classes, confidence = folder / "map.gpkg", folder / "classes.tif", folder / "confidence.tif"
    command("segment", ortho, layer, "--raster", classes, "--confidence", confidence, "--overwrite", "-q", *options)
    rasters = {"classes": raster_digest(classes), "confidence": raster_digest(confidence)}
    return rasters | layer_digests(layer)


def record() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command("demo", folder / "demo")
        ortho = folder / "demo" / "ortho.tif"
        found["demo"] = map_digests(ortho, folder)
        found["demo, smooth and dissolved"] = map_digests(ortho, folder, "--smooth", "--dissolve", "--min-area", "1")
        polygonized = folder / "polygonized.gpkg"
        classes = [folder / "demo" / "truth.tif", folder / "classes.tif"]
        classes += [DATA / one for one in CLASS_RASTERS]
        for path in filter(Path.is_file, classes):
            command("polygonize", path, polygonized, "--overwrite", "-q", "--min-area", "1")
            found[f"polygonize {path.name}"] = layer_digests(polygonized)
        for path in filter(Path.is_file, (DATA / one for one in ORTHOS)):
            found[path.name] = map_digests(path, folder, "--resolution", "native")
        found["batch"] = batch_digests(ortho, folder / "job")
    return found


def batch_digests(ortho: Path, folder: Path) -> dict[str, str]:
    (folder / "in").mkdir(parents=True)
    for number in range(2):
        shutil.copyfile(ortho, folder / "in" / f"{number}.tif")
    (folder / "in" / "broken.tif").write_bytes(b"II*\0")
    (folder / "job.toml").write_text('[inputs]\nglob = "in/*.tif"\n[outputs]\nlayer = "out/{stem}.gpkg"\n')
    run = subprocess.run([sys.executable, "-m", "aerialseg", "batch", str(folder / "job.toml"), "-q"], check=False)
    report = report_digest(folder / "job.job" / "reports" / "latest.json", folder)
    return {"exit code": str(run.returncode), "report": report} | layer_digests(folder / "out" / "0.gpkg")


def compare(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    lines = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, {}), after.get(name, {})
        lines += [f"{name}: {part}" for part in sorted(old.keys() | new.keys()) if old.get(part) != new.get(part)]
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("record").add_argument("file", type=Path)
    both = commands.add_parser("compare")
    both.add_argument("before", type=Path)
    both.add_argument("after", type=Path)
    wanted = parser.parse_args()
    if wanted.command == "record":
        wanted.file.write_text(json.dumps(record(), indent=1) + "\n")
        return 0
    before, after = (json.loads(path.read_text()) for path in (wanted.before, wanted.after))
    differing = compare(before, after)
    print("\n".join(differing) or f"nothing differs in {sum(map(len, before.values()))} digests")
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
