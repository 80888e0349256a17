"""Faults 26 and 42: what decides a block is known by its whole identity, so blocks of two kinds never meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from aerialseg.errors import OutputError
from aerialseg.mapping.segment import segment
from aerialseg.model import device, openvino
from aerialseg.model.card import ModelCard
from aerialseg.model.device import ComputeMode, choose
from aerialseg.model.interface import Prediction, Tile
from tests.batch.conftest import Folder, folder
from tests.conftest import WriteRaster, land_cover
from tests.fakes import Fake, Flaky, Oracle
from tests.raster.drawing import write

__all__ = ["folder"]

ENDINGS = [".tif.msk", ".tif.aux.xml", ".tif.ovr", ".tfw", ".TFW", ".wld", ".prj", ".tif.msk.aux.xml"]


def put(raster: Path, ending: str, value: int) -> None:
    """A sidecar of a TIFF or of text, which differs with ``value``."""
    path = raster.with_name(raster.stem + ending)
    if ending in (".tif.msk", ".tif.ovr"):
        path.unlink(missing_ok=True)
        write(path, np.full((1, 48, 48), value, np.uint8))
    elif ending.endswith(".xml"):
        path.write_text(f"<PAMDataset><Metadata><MDI key='a'>{value}</MDI></Metadata></PAMDataset>")
    else:
        path.write_text(f"0.1\n0\n0\n-0.1\n{value}\n5\n")


Change = tuple[Callable[[Path, str], None], Callable[[Path, str], None]]
CHANGES: dict[str, Change] = {
    "appears": (lambda raster, ending: None, lambda raster, ending: put(raster, ending, 200)),
    "changes": (lambda raster, ending: put(raster, ending, 100), lambda raster, ending: put(raster, ending, 200)),
    "goes": (
        lambda raster, ending: put(raster, ending, 100),
        lambda raster, ending: raster.with_name(raster.stem + ending).unlink(),
    ),
}
each_ending = pytest.mark.parametrize("ending", ENDINGS)
each_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


@dataclass(frozen=True)
class Meddling(Fake):
    """An oracle during whose work something happens."""

    happens: Callable[[], None]
    inner: Oracle = field(default_factory=Oracle)

    @property
    def card(self) -> ModelCard:
        return self.inner.card

    def predict(self, tile: Tile) -> Prediction:
        self.happens()
        return self.inner.predict(tile)


@each_ending
@each_change
def test_row_26_a_sidecar_that_changes_during_a_run_leaves_no_result_and_no_blocks(
    tmp_path: Path, write_raster: WriteRaster, ending: str, change: Change
) -> None:
    source, once = write_raster(land_cover(48, 48)), []

    def happens() -> None:
        if not once:
            change[1](source, ending)
            once.append(True)

    change[0](source, ending)
    with pytest.raises(OutputError, match="changed during the run") as error:
        segment(source, tmp_path / "map.gpkg", model=Meddling(happens), keep_run=tmp_path / "run")
    assert not getattr(error.value, "__notes__", [])
    assert not (tmp_path / "map.gpkg").exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@each_ending
@each_change
def test_row_26_blocks_of_another_sidecar_are_not_taken_up(
    tmp_path: Path, write_raster: WriteRaster, ending: str, change: Change
) -> None:
    source = write_raster(land_cover(48, 48))
    change[0](source, ending)
    with pytest.raises(RuntimeError, match="died"):
        segment(source, tmp_path / "map.gpkg", model=Flaky(tmp_path / "log", 3), block_px=32)
    change[1](source, ending)
    asked = [tmp_path / "resumed", tmp_path / "clean"]
    for log in asked:
        segment(source, tmp_path / "map.gpkg", model=Flaky(log, 99), block_px=32, overwrite=True)
    assert len({log.read_text() for log in asked}) == 1


@pytest.mark.long
@pytest.mark.slow
@each_ending
@each_change
def test_row_26_batch_sees_a_sidecar_that_changed_between_two_nights(
    folder: Folder, ending: str, change: Change
) -> None:
    change[0](folder.path / "in" / "a.tif", ending)
    assert folder.run().exit_code == 0
    change[1](folder.path / "in" / "a.tif", ending)
    folder.run()
    reasons = folder.reasons()
    assert reasons.pop("a.tif").startswith("a file beside the input changed")
    assert set(reasons.values()) == {"unchanged"}
    folder.run()
    assert set(folder.reasons().values()) == {"unchanged"}


def test_row_26_a_sidecar_that_was_only_copied_again_is_no_change(folder: Folder) -> None:
    raster = folder.path / "in" / "a.tif"
    put(raster, ".tif.msk", 255)
    put(raster.with_name("b.tif"), ".tif.msk", 255)
    folder.run()
    mask = raster.with_name("a.tif.msk")
    content = mask.read_bytes()
    mask.unlink()
    mask.write_bytes(content)
    folder.run()
    assert set(folder.reasons().values()) == {"unchanged"}


def test_row_26_what_is_beside_another_raster_is_no_change(folder: Folder) -> None:
    folder.run()
    for name in ("aa.tif.msk", "a_1.tfw", "a1.prj", "b.txt", "a.qml"):
        (folder.path / "in" / name).write_text("0.1")
    folder.run()
    assert set(folder.reasons().values()) == {"unchanged"}


def test_row_26_a_raster_that_failed_is_tried_again_when_a_sidecar_repairs_it(folder: Folder) -> None:
    from pyproj import CRS

    raster = write(folder.path / "in" / "d.tif", land_cover(48, 48), crs=None)
    settings = {"require-crs": True}
    assert folder.run(settings=settings).exit_code == 1
    crs = CRS("EPSG:32633").to_wkt("WKT1_ESRI").replace('"', "&quot;")
    raster.with_name("d.tif.aux.xml").write_text(f"<PAMDataset><SRS>{crs}</SRS></PAMDataset>")
    assert folder.run(settings=settings).exit_code == 0
    assert folder.reasons()["d.tif"].startswith("failed before; a file beside the input changed")


def test_row_42_arithmetic_that_gives_other_labels_has_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    for vnni in (False, True):
        for bf16 in (False, True):
            monkeypatch.setattr(device, "multiplies_int8", lambda vnni=vnni: vnni)
            monkeypatch.setattr(device, "has_bf16", lambda bf16=bf16: bf16)
            names.add(ComputeMode(choose("cpu", "fp32", "torch").device, "openvino", "int8").numerics)
    assert len(names) == 4


def test_row_42_openvino_asks_the_same_as_the_name_does() -> None:
    assert openvino.multiplies_int8 is device.multiplies_int8
    assert openvino.has_bf16 is device.has_bf16
