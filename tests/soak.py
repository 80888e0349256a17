"""A thousand small rasters in one process: ``python -m tests.soak SOURCE FOLDER`` prints what it held after some.

In a process of its own, because one that runs many tests holds gigabytes, which come and go with what ran before.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from aerialseg.mapping.segment import segment
from tests.fakes import Oracle

COUNT, LOOKED_AT = 1000, (199, 599, 999)


def resident_mb() -> float:
    """Memory of this process that is in use."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def soak(source: Path, folder: Path) -> list[tuple[float, int, int]]:
    """(MB in use, open files, threads) after 200, 600 and 1,000 rasters."""
    seen = []
    for number in range(COUNT):
        segment(source, folder / "map.gpkg", model=Oracle(), raster=folder / "c.tif", overwrite=True)
        if number in LOOKED_AT:
            seen.append((resident_mb(), len(os.listdir("/proc/self/fd")), threading.active_count()))
    return seen


if __name__ == "__main__":
    print(json.dumps(soak(*map(Path, sys.argv[1:]))))
