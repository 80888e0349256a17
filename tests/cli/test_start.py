"""The first line stands on the screen before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "fastai", "numba", "scipy", "openvino", "rasterio", "pandas", "geopandas", "shapely", "onnxruntime"}

UNTIL_THE_FIRST_LINE = """
import sys
from aerialseg.cli import display, failures

def tell(text, **_):
    print(text)
    print(*sorted({name.split(".")[0] for name in sys.modules}))
    raise SystemExit(0)

display.tell = failures.tell = tell
from aerialseg.cli import batch_commands, commands
batch_commands.tell = tell
commands.cli(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["segment", "ortho.tif", "map.gpkg"], "Opening ortho.tif"),
        (["segment", "a.tif", "b.tif", "c.tif", "map.gpkg"], "Opening a.tif and 2 others"),
        (["polygonize", "classes.tif", "map.gpkg"], "Opening classes.tif"),
        (["batch", "job.toml"], "Reading job.toml"),
        (["evaluate", "model", "--data", "frames"], "Opening frames"),
        (["train", "own.toml", "--data", "frames", "--out", "model"], "Loading PyTorch and fastai"),
    ],
)
def test_the_first_line_comes_before_heavy_imports(arguments: list[str], line: str) -> None:
    command = [sys.executable, "-c", UNTIL_THE_FIRST_LINE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    first, _, modules = done.stdout.partition("\n")
    assert first.endswith(line), done.stderr
    assert not HEAVY & set(modules.split())


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from aerialseg.cli import segment_raster; sys.argv = ['segment-raster', '--help']\n"
    code += "try: segment_raster()\nexcept SystemExit: print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("Usage: segment-raster")
    assert not HEAVY & set(done.stdout.splitlines()[-1].split())
