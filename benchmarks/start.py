"""What a user feels: seconds to the first line on the screen, seconds of a small map, size of the environment.

    python benchmarks/start.py                  # of the environment that this Python is of
    python benchmarks/start.py --bin ENV/bin    # of another one

The map is the demo scene's, 0.4 megapixels; the first run may compile loops, the others do not. Medians of the others.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|[\r\n ]")
SIZE = "import sysconfig, importlib.metadata as m; print(sysconfig.get_path('purelib'), len(list(m.distributions())))"


def watch(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Seconds until something can be read on the terminal, until the end, and of CPU, of a command that succeeds."""
    begin, first = time.perf_counter(), 0.0
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += (more := os.read(ours, 4096))
        except OSError:  # the other side is closed
            break
        if not more:
            break
        if not first and ESCAPES.sub(b"", shown):
            first = time.perf_counter() - begin
    os.close(ours)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(ESCAPES.sub(b" ", shown)[-500:].decode(errors="replace"))
    return first, time.perf_counter() - begin, used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bin", type=Path, default=Path(sys.executable).parent)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    tools = given.bin.absolute()
    told = subprocess.run([tools / "python", "-c", SIZE], capture_output=True, text=True, check=True).stdout.split()
    size = sum(path.stat().st_size for path in Path(told[0]).rglob("*") if path.is_file() and not path.is_symlink())
    print(f"environment: {told[1]} packages, {size / 1e6:,.0f} MB")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([tools / "aerialseg", "demo", "demo"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        command = [str(tools / "segment-raster"), "demo/ortho.tif", "map.gpkg", "--overwrite"]
        cold, *warm = [watch(command, folder) for _ in range(given.rounds + 1)]
    print(said("first run", cold))
    print(said("later runs", [statistics.median(one) for one in zip(*warm, strict=True)]))


def said(name: str, seconds: Sequence[float]) -> str:
    first, total, cpu = seconds
    return f"{name + ':':<12} first line after {first:.2f} s, map after {total:.1f} s ({cpu:.1f} s of CPU)"


if __name__ == "__main__":
    main()
