"""What is damaged, and what then reads it: for each kind of file a folder that is whole and a command that takes it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas
import numpy as np
import shapely
import torch

from aerialseg.batch.collect import Wanted, collect
from aerialseg.batch.dry_run import describe_estimate, dry_run
from aerialseg.batch.job import run_job
from aerialseg.batch.jobfile import read_job
from aerialseg.batch.status import describe_status, status_of
from aerialseg.cli import cli
from aerialseg.datasets.chips import make_chips
from aerialseg.evaluation.map_accuracy import assess_map
from aerialseg.legend import Legend
from aerialseg.mapping.polygonize import polygonize
from aerialseg.mapping.segment import segment
from aerialseg.model.card import ModelCard
from aerialseg.model.store import load_network, save
from aerialseg.progress import Silent
from aerialseg.raster.palette import aux_xml
from aerialseg.training.config import TrainingConfig
from aerialseg.training.training_frames import load_training_frames
from tests.conftest import land_cover
from tests.drawn_frames import CONFIG, write_drawn_data
from tests.fakes import LEGEND, Oracle
from tests.model.nets import card, lively_network
from tests.raster.drawing import TEN_CM, write

SIDE = 40


@dataclass(frozen=True)
class Subject:
    """victims: files that are damaged, one at a time. named: what a message may name instead of the victim."""

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    victims: tuple[str, ...]
    named: tuple[str, ...] = ()
    weight: int = 1


PAM = """<PAMDataset><SRS dataAxisToSRSAxisMapping="1,2">EPSG:32633</SRS>
<GeoTransform>500000, 0.1, 0, 5000000, 0, -0.1</GeoTransform>
<Metadata><MDI key="AREA_OR_POINT">Area</MDI></Metadata>
<Metadata domain="IMAGE_STRUCTURE"><MDI key="PIXELTYPE">DEFAULT</MDI></Metadata>
<PAMRasterBand band="1"><Description>red</Description><NoDataValue>0</NoDataValue><ColorInterp>Red</ColorInterp>
<UnitType>m</UnitType><Offset>0</Offset><Scale>1</Scale><CategoryNames><Category>a</Category></CategoryNames>
<Histograms><HistItem><HistMin>-0.5</HistMin><HistMax>255.5</HistMax><BucketCount>4</BucketCount>
<IncludeOutOfRange>1</IncludeOutOfRange><Approximate>0</Approximate><HistCounts>1|2|3|4</HistCounts></HistItem></Histograms>
</PAMRasterBand><PAMRasterBand band="2"><NoDataValue>0</NoDataValue></PAMRasterBand>
<PAMRasterBand band="3"><NoDataValue>0</NoDataValue></PAMRasterBand></PAMDataset>"""
JOB = """name = "night"
folder = "night.job"
[inputs]
{inputs}
[outputs]
layer = "out/{{stem}}.gpkg"
raster = "out/{{stem}}.tif"
[settings]
resolution = 0.1
min_area = 0.5
simplify = "0.2"
[run]
rasters = 1
[retry]
times = 0
wait_s = 0.1
on = ["output", "other"]
[failures]
tolerate = "50 %"
[keep]
runs = false
reports = 3
"""
GLOB = 'glob = ["in/*.tif"]\nexclude = ["in/x*"]'
STAC = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": "a",
            "collection": "flights",
            "geometry": {"type": "Point", "coordinates": [15, 45]},
            "properties": {"datetime": "2026-05-01T10:00:00Z", "updated": "2026-05-02T10:00:00Z"},
            "links": [{"rel": "self", "href": "a.json"}],
            "assets": {
                "visual": {
                    "href": "in/a.tif",
                    "type": "image/tiff; application=geotiff",
                    "roles": ["data"],
                    "file:checksum": "1220" + "0" * 64,
                    "file:size": 4711,
                }
            },
        }
    ],
    "links": [{"rel": "root", "href": "catalog.json"}],
}


def _make_ortho(folder: Path) -> None:
    pixels = land_cover(SIDE, SIDE)
    for name, content in (("ortho.tif", pixels), ("ortho.tif.ovr", pixels[:, ::2, ::2])):
        write(folder / name, content, tiled=True, blockxsize=16, blockysize=16, compress="deflate", photometric="rgb")
    write(folder / "ortho.tif.msk", np.full((1, SIDE, SIDE), 255, np.uint8), compress="deflate")
    (folder / "ortho.tif.aux.xml").write_text(PAM)


def _make_wide(folder: Path) -> None:
    """16 bit, in bands apart, with an inner mask."""
    pixels = land_cover(SIDE, SIDE).astype(np.uint16)
    mask = np.full((SIDE, SIDE), 255, np.uint8)
    write(folder / "ortho.tif", pixels, mask=mask, interleave="band", compress="lzw", nodata=9)


def _segment(folder: Path, **settings: object) -> None:
    segment(folder / "ortho.tif", folder / "out.gpkg", model=Oracle(), raster=folder / "out.tif", **settings)


def _make_classes(folder: Path) -> None:
    write(folder / "map.tif", land_cover(SIDE, SIDE)[:1], nodata=255, compress="deflate")
    (folder / "map.tif.aux.xml").write_bytes(aux_xml(LEGEND))
    LEGEND.to_csv(folder / "legend.csv")


def _make_labels(folder: Path) -> None:
    _make_classes(folder)
    write(folder / "ortho.tif", land_cover(128, 256) | 1)
    squares = [
        shapely.box(x, y, x + 6, y + 6) for x in range(500_000, 500_024, 6) for y in range(4_999_976, 5_000_000, 6)
    ]
    names = [LEGEND.names[number % 6] for number in range(len(squares))]
    frame = geopandas.GeoDataFrame({"class": names}, geometry=squares, crs="EPSG:32633")
    frame.to_file(folder / "truth.gpkg")
    frame.to_crs("EPSG:4326").to_file(folder / "truth.geojson")


def _accuracy(truth: str) -> Callable[[Path], object]:
    return lambda folder: assess_map(folder / "map.tif", folder / truth, legend=folder / "legend.csv").to_json()


def _chips(folder: Path) -> None:
    labels, legend = folder / "truth.geojson", folder / "legend.csv"
    make_chips([folder / "ortho.tif"], labels, folder / "set", legend=legend, resolution_m="native", size=(64, 64))


def _make_model(folder: Path) -> None:
    network = lively_network()
    save(folder / "model", replace(card(network), scores={"held_out": {"mean_iou": 0.5}}), network.state_dict())
    (folder / "model" / "history.json").write_text('{"history": [{"epoch": 1, "loss": 0.5}], "frame_size": [64, 64]}')


def _show(folder: Path) -> None:
    _run("model", "show", str(folder / "model"))
    _run("model", "list", str(folder))
    _run("model", "export", str(folder / "model"), str(folder / "item.json"))


def _run(*arguments: str) -> None:
    """A command line in this process; its error is raised."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            cli.main(arguments, standalone_mode=False)
        except SystemExit as end:
            raise end.__context__ or AssertionError(f"exit {end.code}") from None


def _load(folder: Path) -> None:
    """The network, its card made to fit the file of weights, at work."""
    path = folder / "model" / "card.json"
    digest = hashlib.sha256((folder / "model" / "weights.safetensors").read_bytes()).hexdigest()
    replace(ModelCard.read(path), weights_sha256=digest).write(path)
    load_network(folder / "model")[1](torch.zeros(1, 3, 64, 64))


def _make_job(folder: Path, inputs: str = GLOB) -> None:
    (folder / "in").mkdir()
    for number, name in enumerate("ab"):
        transform = TEN_CM @ TEN_CM.translation(number * SIDE, 0)
        write(folder / "in" / f"{name}.tif", land_cover(SIDE, SIDE, seed=number), transform=transform)
    (folder / "night.toml").write_text(JOB.format(inputs=inputs))
    (folder / "inputs.csv").write_text("path,settings.min_area,place\nin/a.tif,3,north\nin/b.tif,,south\n")
    (folder / "inputs.txt").write_text("# tonight\nin/a.tif\nin/b.tif\n")
    (folder / "items.json").write_text(json.dumps(STAC))


def _dry_run(folder: Path) -> None:
    describe_estimate(dry_run(read_job(folder / "night.toml"), predictor=Oracle()))


def _job_of(inputs: str, victim: str) -> Subject:
    return Subject(lambda folder: _make_job(folder, inputs), _dry_run, (victim,), ("night.toml",), 2)


def _make_done(folder: Path) -> None:
    _make_job(folder)
    run_job(read_job(folder / "night.toml"), predictor=Oracle())


def _go_on(folder: Path) -> None:
    describe_status(status_of(folder / "night.job"))
    collect(folder / "night.job", Wanted(mosaic=folder / "all.vrt", stac=folder / "stac"))
    _dry_run(folder)
    run_job(read_job(folder / "night.toml"), predictor=Oracle())


def _make_run(folder: Path) -> None:
    _make_ortho(folder)
    _segment(folder, keep_run=folder / "run")


def _make_training(folder: Path) -> None:
    write_drawn_data(folder)
    for path in [*folder.glob("*/*.png")]:
        if int(path.stem) not in (0, 1, 22, 23):
            path.unlink()
    (folder / "split.csv").write_text("frame,held_out\n000,0\n001,0\n022,1\n023,1\n")
    (folder / "train.toml").write_text(CONFIG)


def _train(folder: Path) -> None:
    config = TrainingConfig.read(folder / "train.toml")
    load_training_frames(config, folder, folder / "prepared", Silent())


ORTHO = ("ortho.tif", "ortho.tif.msk", "ortho.tif.ovr", "ortho.tif.aux.xml")
MODEL = ("model/card.json", "model/history.json")
RUN = ("run/plan.json", "run/run.json", "run/classes.tif", "run/confidence.tif")
DATA = ("train.toml", "legend.csv", "split.csv", "masks/000.png")
SUBJECTS = {
    "raster": Subject(_make_ortho, _segment, ORTHO, ("ortho.tif",), 3),
    "wide": Subject(_make_wide, lambda folder: _segment(folder, scale=(0, 255)), ("ortho.tif",)),
    "classes": Subject(
        _make_classes,
        lambda folder: polygonize(folder / "map.tif", folder / "out.gpkg"),
        ("map.tif", "map.tif.aux.xml"),
        ("map.tif",),
        2,
    ),
    "legend": Subject(_make_classes, lambda folder: Legend.from_csv(folder / "legend.csv"), ("legend.csv",), weight=2),
    "geojson": Subject(_make_labels, _accuracy("truth.geojson"), ("truth.geojson",)),
    "geopackage": Subject(_make_labels, _accuracy("truth.gpkg"), ("truth.gpkg",)),
    "chips": Subject(_make_labels, _chips, ("truth.geojson",)),
    "card": Subject(_make_model, _show, MODEL, ("/model",), 2),
    "weights": Subject(_make_model, _load, ("model/weights.safetensors",), ("/model",), 2),
    "job": _job_of(GLOB, "night.toml"),
    "csv": _job_of('csv = "inputs.csv"', "inputs.csv"),
    "list": _job_of('list = "inputs.txt"', "inputs.txt"),
    "stac": _job_of('stac = "items.json"', "items.json"),
    "ledger": Subject(
        _make_done, _go_on, ("night.job/ledger.sqlite",), ("night.job", "has no class raster to collect")
    ),
    "run": Subject(_make_run, lambda folder: _segment(folder, keep_run=folder / "run", overwrite=True), RUN, ("/run",)),
    "training": Subject(_make_training, _train, DATA, ("/masks", "images", "give the data folder"), 3),
}
