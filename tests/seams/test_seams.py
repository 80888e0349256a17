"""The seam certificate: what it measures on a small network, what it writes, how it ends."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from aerialseg.cli import cli
from aerialseg.errors import InputError, ModelError, OutputError, UsageError
from aerialseg.legend import NODATA
from aerialseg.model.network import Network
from aerialseg.model.store import save
from aerialseg.seams import certificate as seams
from aerialseg.seams.certificate import Certificate, TilingResult, certify
from aerialseg.seams.certificate_files import CertificateFiles
from aerialseg.seams.tilings import Whole, tile_cuts
from tests.conftest import WriteRaster
from tests.model.nets import card, legend, lively_network

SIZE = (290, 310)
SMALL = {"HALOS": (0, 64, 512), "CORE_PX": 160, "USUAL_PX": 192, "USUAL_OVERLAP_PX": 64}
"""So that a small image has several tiles."""


@pytest.fixture(scope="module")
def network() -> Network:
    return lively_network(classes=12)


@pytest.fixture(scope="module")
def model(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save(folder, card(network, legend=legend(12)), network.state_dict(), dtype=torch.float32)
    return folder


@pytest.fixture(scope="module")
def certificate(model: Path) -> Certificate:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(seams, name, value)
        return certify(model, size=SIZE, device="cpu")


def line(certificate: Certificate, words: str) -> TilingResult:
    return next(line for line in certificate.lines if words in line.way)


@pytest.mark.slow
def test_exact_tiles_change_nothing_and_say_so(certificate: Certificate) -> None:
    exact = line(certificate, "exact")
    assert certificate.exact
    assert exact.clear_changed == 0
    assert 0 < exact.largest < 1e-4
    assert exact.halo_px == 256
    assert "Exact: with its halo of 256 px" in certificate.text()
    seams.check_verdict(certificate)


@pytest.mark.slow
def test_a_larger_halo_changes_fewer_labels_and_costs_more_work(certificate: Certificate) -> None:
    lines = [line for line in certificate.lines if line.way.startswith("approximate")]
    assert [line.halo_px for line in lines] == list(SMALL["HALOS"])
    changed = [line.changed for line in lines]
    assert changed[0] > changed[1] > changed[2]
    work = [line.work or 0 for line in lines]
    assert work == sorted(work)
    assert lines[-1].clear_changed == 0  # 512 px are more than this network's 256


@pytest.mark.slow
def test_tiles_that_are_pulled_back_change_labels(certificate: Certificate) -> None:
    assert line(certificate, "pulled back").changed > 1e-3


@pytest.mark.slow
def test_windows_off_the_lattice_change_labels_whatever_the_halo(network: Network) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 580, 640), dtype=np.uint8)
    whole = Whole(network, card(network, legend=legend(12)), pixels, np.ones((580, 640), bool))
    for offset in (1, 16):
        moved = whole.moved(offset)
        assert moved is not None
        assert moved.pixels > 1000
        assert moved.clear_changed / moved.pixels > 1e-3
    still = whole.moved(0)
    assert still is not None
    assert still.clear_changed == 0
    assert still.largest < 1e-4


@pytest.mark.slow
def test_only_valid_pixels_count(certificate: Certificate) -> None:
    assert line(certificate, "exact").pixels == certificate.valid.sum() < certificate.valid.size


@pytest.mark.slow
def test_a_certificate_is_json(certificate: Certificate) -> None:
    values = json.loads(json.dumps(certificate.to_json(), allow_nan=False))
    assert values["exact"] is True
    assert values["size"] == list(SIZE)
    assert len(values["lines"]) == len(certificate.lines)


@pytest.mark.slow
def test_an_exactness_that_was_not_kept_is_an_error(certificate: Certificate) -> None:
    lines = tuple(replace(line, clear_changed=1e-6) if line.way == "exact" else line for line in certificate.lines)
    broken = replace(certificate, lines=lines)
    assert "NOT exact" in broken.text()
    with pytest.raises(ModelError, match="did not give the labels"):
        seams.check_verdict(broken)


def test_a_network_that_cannot_be_exact_gets_the_other_lines_and_the_layer_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seams, "HALOS", (0,))
    network = lively_network(classes=12, norm="instance")
    described = card(network, legend=legend(12))
    described = replace(described, architecture=replace(described.architecture, norm="instance"))
    save(tmp_path, described, network.state_dict())
    certificate = certify(tmp_path, size=(200, 230), device="cpu")
    assert not certificate.exact
    assert not [line for line in certificate.lines if line.way == "exact"]
    assert "cannot be exact: its layer layers.3.0.1 (InstanceNorm)" in certificate.text()
    seams.check_verdict(certificate)


def images(picture: Path) -> list[bytes]:
    """What the <image> elements of an SVG hold, in their order."""
    found = ElementTree.parse(picture).getroot().iter("{http://www.w3.org/2000/svg}image")
    return [base64.b64decode(image.attrib["href"].split(",")[1]) for image in found]


@pytest.mark.slow
def test_the_pictures_show_tiles_and_shares(certificate: Certificate, tmp_path: Path) -> None:
    made = CertificateFiles(tmp_path / "c.json", tmp_path / "plot.svg", tmp_path / "seams.svg").write(certificate)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.json", "plot.svg", "seams.svg"]
    assert "halo around the tile" in "".join(ElementTree.parse(made[1]).getroot().itertext())
    exact, usual, ground, different = (np.asarray(Image.open(io.BytesIO(content))) for content in images(made[2]))
    assert ground.shape == (*certificate.size, 3)
    valid, labels = certificate.valid, certificate.labels
    assert (exact[valid] == labels["exact"][valid]).all()
    laid_over = np.where(usual == NODATA, exact, usual)
    assert (laid_over[valid] == labels["usual"][valid]).all()
    assert ((different == 0) == ((labels["usual"] != labels["whole"]) & valid)).all()


def test_pictures_are_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "plot.svg").touch()
    with pytest.raises(UsageError, match="exists: add --overwrite"):
        CertificateFiles(plot=tmp_path / "plot.svg").check(overwrite=False)
    CertificateFiles(plot=tmp_path / "plot.svg").check(overwrite=True)
    with pytest.raises(UsageError, match=r"written as SVG: name it other\.svg"):
        CertificateFiles(picture=tmp_path / "other.png").check(overwrite=False)
    with pytest.raises(OutputError, match=r"nowhere of output .* does not exist: make it first"):
        CertificateFiles(json=tmp_path / "nowhere/c.json").check(overwrite=False)
    CertificateFiles(json=tmp_path / "other.json").check(overwrite=False)


@pytest.mark.slow
def test_the_middle_of_a_raster_is_read_as_the_model_wants_it(
    model: Path, write_raster: WriteRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seams, "HALOS", ())
    pixels = np.random.default_rng(0).integers(0, 256, (3, 400, 500), dtype=np.uint8)
    certificate = certify(model, write_raster(pixels), size=(200, 220), device="cpu")  # 10 cm, the model's are 5 cm
    assert certificate.size == (200, 220)
    assert certificate.image == "the middle of ortho.tif"
    with pytest.raises(InputError, match="no valid pixel"):
        certify(model, write_raster(pixels * 0, name="empty.tif", nodata=0), size=(200, 220), device="cpu")


def test_usual_tiles_cover_an_axis_once_and_the_last_is_pulled_back() -> None:
    for length in (100, 512, 513, 960, 1750):
        found = list(tile_cuts(length, 512, 64))
        assert [first for first, _, _ in found] == [0, *(end for _, end, _ in found[:-1])]
        assert found[-1][1] == length
        assert all(start <= first < end <= min(start + 512, length) for first, end, start in found)
        assert found[-1][2] == max(0, length - 512)


def test_an_image_too_small_for_a_misaligned_window_has_no_such_line(network: Network) -> None:
    pixels = np.full((3, 100, 100), 90, np.uint8)
    whole = Whole(network, card(network, legend=legend(12)), pixels, np.ones((100, 100), bool))
    assert whole.moved(1) is None


@pytest.mark.slow
def test_the_command_prints_the_table_and_the_paths_it_made(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**SMALL, "HALOS": (0,), "CORE_PX": 96}.items():
        monkeypatch.setattr(seams, name, value)
    path = tmp_path / "seams.json"
    done = CliRunner().invoke(cli, ["seams", str(model), "--size", "210,200", "--device", "cpu", "--json", str(path)])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{path}\n"
    assert "labels changed" in done.stderr
    found = json.loads(path.read_text())
    assert found["exact"] is True
    assert [line["changed"] > 0 for line in found["lines"]] == [True, True, False]
    again = CliRunner().invoke(cli, ["seams", str(model), "--json", str(path)])
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr


def test_a_model_that_is_not_there_is_exit_4() -> None:
    assert CliRunner().invoke(cli, ["seams", "no-such-model"]).exit_code == 4
