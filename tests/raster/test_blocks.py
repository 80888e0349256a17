"""Block files, the mosaic, and that nothing partial ever has a final name."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio

from aerialseg.errors import OutputError
from aerialseg.files import move_into_place, write_atomically
from aerialseg.raster.blocks import check_whole, join_blocks, read_block, write_block
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.grid import Grid

NO_CRS = GeoGrid(9, 9, (1, 0, 0, 0, 1, 0), None)


def utm_geo(height: int, width: int) -> GeoGrid:
    wkt = rasterio.CRS.from_epsg(32633).to_wkt()
    return GeoGrid(height, width, (0.05, 0.01, 5e5, 0.01, -0.05, 5e6), wkt)


def join_all_blocks(
    grid: Grid, block_path: Callable[[int], Path], geo: GeoGrid, classes: Path, confidence: Path
) -> None:
    with join_blocks(grid, block_path, geo, classes, confidence) as join:
        for index in range(len(grid)):
            join(index, None)


def answer(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    valid = rng.random((height, width)) < 0.9
    classes, confidence = (rng.integers(0, top, (height, width), dtype=np.uint8) for top in (24, 101))
    return np.where(valid, classes, 255).astype(np.uint8), np.where(valid, confidence, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(1, 1), (31, 33), (300, 200)])
def test_a_block_reads_back_and_is_the_same_file_each_time(tmp_path, shape):
    bands = answer(*shape)
    write_block(tmp_path / "a.tif", *bands)
    write_block(tmp_path / "b.tif", *bands)
    assert all((read == wrote).all() for read, wrote in zip(read_block(tmp_path / "a.tif"), bands, strict=True))
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.tif", "b.tif"]


def test_a_block_without_a_valid_pixel_takes_no_room(tmp_path):
    empty = np.full((2048, 2048), 255, np.uint8)
    write_block(tmp_path / "a.tif", empty, empty)
    assert (tmp_path / "a.tif").stat().st_size < 1000
    assert (read_block(tmp_path / "a.tif")[0] == 255).all()


@pytest.mark.parametrize("damage", [None, b"", b"II*\0garbage"])
def test_a_missing_or_damaged_block_is_named(tmp_path, damage):
    if damage is not None:
        (tmp_path / "a.tif").write_bytes(damage)
    with pytest.raises(OutputError, match=r"a\.tif cannot be read.*run again"):
        read_block(tmp_path / "a.tif")


def test_a_cut_block_is_named(tmp_path):
    path = tmp_path / "a.tif"
    write_block(path, *answer(300, 300))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(OutputError, match="cannot be read"):
        read_block(path)


def make_blocks(folder: Path, grid: Grid, bands: tuple[np.ndarray, np.ndarray]) -> None:
    for index, core in enumerate(grid):
        write_block(folder / f"{index}.tif", *(band[core.slices] for band in bands))


@pytest.mark.slow
@pytest.mark.parametrize("block", [512, 128, 96, 32, 1024])
def test_the_mosaic_is_the_blocks_side_by_side(tmp_path, block):
    grid, bands = Grid(600, 230, block, 32), answer(600, 230)
    make_blocks(tmp_path, grid, bands)
    paths = tmp_path / "classes.tif", tmp_path / "confidence.tif"
    join_all_blocks(grid, lambda index: tmp_path / f"{index}.tif", utm_geo(600, 230), *paths)
    for path, band in zip(paths, bands, strict=True):
        with rasterio.open(path) as dataset:
            assert (dataset.read(1) == band).all()
            assert (dataset.count, dataset.nodata, dataset.crs) == (1, 255, rasterio.CRS.from_epsg(32633))
            assert tuple(dataset.transform)[:6] == utm_geo(1, 1).transform
            assert dataset.profile["tiled"]
    assert not list(tmp_path.glob("*.part"))


def test_blocks_may_be_joined_in_any_order_from_file_or_memory_and_in_another_thread(tmp_path):
    grid, bands = Grid(600, 230, 128, 32), answer(600, 230)
    make_blocks(tmp_path, grid, bands)
    paths = tmp_path / "classes.tif", tmp_path / "confidence.tif"
    with join_blocks(grid, lambda index: tmp_path / f"{index}.tif", utm_geo(600, 230), *paths) as join:
        order = np.random.default_rng(0).permutation(len(grid)).tolist()
        given = [tuple(band[grid.core(n).slices] for band in bands) if n % 2 else None for n in order]
        with ThreadPoolExecutor(1) as thread:
            list(thread.map(join, order, given))
        assert not paths[0].exists()
    for path, band in zip(paths, bands, strict=True):
        with rasterio.open(path) as dataset:
            assert (dataset.read(1) == band).all()


def test_a_mosaic_without_any_place_and_smaller_than_a_tile(tmp_path):
    grid, bands = Grid(9, 9, 32, 32), answer(9, 9)
    make_blocks(tmp_path, grid, bands)
    join_all_blocks(grid, lambda index: tmp_path / f"{index}.tif", NO_CRS, tmp_path / "a.tif", tmp_path / "b.tif")
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert dataset.crs is None
        assert (dataset.read(1) == bands[0]).all()


def test_a_mosaic_with_a_block_missing_or_misshapen_leaves_the_old_one(tmp_path):
    grid = Grid(64, 64, 32, 32)
    make_blocks(tmp_path, grid, answer(64, 64))
    old = tmp_path / "classes.tif", tmp_path / "confidence.tif"
    for path in old:
        path.write_text("old")
    write_block(tmp_path / "3.tif", *answer(31, 32))
    with pytest.raises(OutputError, match=r"3\.tif has \(31, 32\) px, wanted \(32, 32\)"):
        join_all_blocks(grid, lambda index: tmp_path / f"{index}.tif", utm_geo(64, 64), *old)
    (tmp_path / "3.tif").unlink()
    with pytest.raises(OutputError, match=r"3\.tif cannot be read"):
        join_all_blocks(grid, lambda index: tmp_path / f"{index}.tif", utm_geo(64, 64), *old)
    assert [path.read_text() for path in old] == ["old", "old"]
    assert not list(tmp_path.glob("*.part"))


def test_a_file_cut_after_it_was_closed_is_noticed(tmp_path):
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="COG", height=600, width=600, count=1, dtype="uint8", crs="EPSG:32633", transform=SCALE
    ) as dataset:
        dataset.write(answer(600, 600)[0], 1)
    check_whole(path)
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(OutputError, match="cut short"):
        check_whole(path)


SCALE = rasterio.Affine(0.1, 0, 5e5, 0, -0.1, 5e6)


def test_writing_leaves_nothing_when_it_fails_and_keeps_what_was_there(tmp_path):
    final = tmp_path / "a.tif"
    final.write_text("old")

    def fail(error: BaseException) -> None:
        with write_atomically(final) as part:
            part.write_text("half")
            raise error

    with pytest.raises(OutputError, match=r"cannot write .*a\.tif: No space left"):
        fail(OSError(28, "No space left on device"))
    with pytest.raises(KeyboardInterrupt):
        fail(KeyboardInterrupt())
    assert final.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.tif"]
    with write_atomically(final) as part:
        part.write_text("new")
    assert final.read_text() == "new"


def test_a_folder_that_is_a_file_or_missing(tmp_path):
    (tmp_path / "file").write_text("x")
    block = answer(8, 8)
    for folder in ("file", "missing"):
        with pytest.raises(OutputError, match=r"cannot write .*a\.tif"):
            write_block(tmp_path / folder / "a.tif", *block)
        with pytest.raises(OutputError, match=r"cannot write .*a\.tif"):
            move_into_place(tmp_path / folder / "a.tif.part", tmp_path / folder / "a.tif")


@pytest.mark.parametrize("system", ["posix", "nt"])
def test_a_file_is_flushed_before_its_name_and_the_folder_where_that_can_be(tmp_path, monkeypatch, system):
    (tmp_path / "a.tif.part").write_text("new")
    really_open, really_fsync, opened = os.open, os.fsync, []

    def open_(path: Path, flags: int) -> int:
        opened.append((path.name, flags, (tmp_path / "a.tif").exists()))
        return really_open(path, flags)

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")  # as some network file systems answer
        really_fsync(handle)

    with monkeypatch.context() as patch:
        for name, value in (("open", open_), ("fsync", fsync), ("name", system)):
            patch.setattr(os, name, value)
        move_into_place(tmp_path / "a.tif.part", tmp_path / "a.tif")
    folders = [(tmp_path.name, os.O_RDONLY, True)] if system == "posix" else []
    assert opened == [("a.tif.part", os.O_RDWR, False), *folders]
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.tif", "new")]


def test_a_file_that_cannot_be_flushed_gets_no_name(tmp_path, monkeypatch):
    def fail(handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with (
        pytest.raises(OutputError, match=r"cannot write .*a\.tif: Input/output error"),
        write_atomically(tmp_path / "a.tif") as part,
    ):
        part.write_text("new")
    assert not os.listdir(tmp_path)


FULL_DISK = """
    import resource, sys
    from pathlib import Path
    import numpy as np
    from aerialseg.errors import OutputError
    from aerialseg.legend import LandClass, Legend
    from aerialseg.raster.cog import write_cog
    from aerialseg.raster.grid import Grid
    from aerialseg.raster.blocks import write_block
    from tests.raster.test_blocks import join_all_blocks, utm_geo
    folder, legend = Path(sys.argv[1]), Legend((LandClass(0, "grass", (0, 255, 0)),))
    grid = Grid(1024, 1024, 512, 32)
    noise = np.random.default_rng(0).integers(0, 255, (512, 512), dtype=np.uint8)
    for index in range(4):
        write_block(folder / f"{index}.tif", noise, noise)
    geo, block = utm_geo(1024, 1024), lambda index: folder / f"{index}.tif"
    join_all_blocks(grid, block, geo, folder / "classes.tif", folder / "confidence.tif")
    size = (folder / "classes.tif").stat().st_size
    write_cog(folder / "classes.tif", folder / "cog.tif", legend=legend, metadata={})
    steps = {
        "block": lambda: write_block(folder / "0.tif", noise[::-1], noise),
        "mosaic": lambda: join_all_blocks(grid, block, geo, folder / "classes.tif", folder / "confidence.tif"),
        "cog": lambda: write_cog(folder / "classes.tif", folder / "cog.tif", legend=legend, metadata={"a": "b"}),
    }
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for limit in [100, size // 10, size // 2, size - 20000, size - 5, size - 1]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        for name, step in steps.items():
            if name == "block" and limit >= size // 2:
                continue
            try:
                step()
            except OutputError as error:
                assert str(folder) in str(error) and "\\n" not in str(error), error
            else:
                raise AssertionError(f"{name} with {limit} of {size} bytes went through")
            after = {path.name: path.read_bytes() for path in folder.iterdir()}
            assert after == before, (name, limit, set(after) ^ set(before))
    print("held")
"""


@pytest.mark.slow
def test_row_21_a_disk_that_fills_up_at_any_point_leaves_the_old_rasters(tmp_path):
    """A limit on the size of a file stands for the disk. GDAL says things on stderr; what counts is the error."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(FULL_DISK), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)
    assert done.stdout == "held\n", done.stderr


ROOT = Path(__file__).parents[2]

MEMORY = """
    import resource, sys
    from pathlib import Path
    import numpy as np
    from aerialseg.raster.grid import Grid
    from aerialseg.raster.blocks import write_block
    from tests.raster.test_blocks import join_all_blocks, utm_geo
    folder, height = Path(sys.argv[1]), int(sys.argv[2])
    grid = Grid(height, 8192, 512, 32)
    noise = np.random.default_rng(0).integers(0, 24, (512, 512), dtype=np.uint8)
    write_block(folder / "0.tif", noise, noise)
    join_all_blocks(grid, lambda index: folder / "0.tif", utm_geo(height, 8192), folder / "a.tif", folder / "b.tif")
    print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_height(tmp_path):
    peaks = []
    for height in (4096, 32768):
        command = [sys.executable, "-c", textwrap.dedent(MEMORY), str(tmp_path), str(height)]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout))
    assert peaks[1] < peaks[0] + 100, peaks
