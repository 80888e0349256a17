"""Zips qgis_plugin/aerialseg_plugin with the licence and the package's version; the same bytes from the same files."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "qgis_plugin" / "aerialseg_plugin"
KINDS = {".py", ".txt", ".svg"}
BEGINNING_OF_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def version() -> str:
    text = (ROOT / "aerialseg" / "_version.py").read_text(encoding="utf-8")
    return re.search(r'__version__ = "(.+)"', text)[1]


def contents() -> dict[str, bytes]:
    """Path in the zip -> bytes."""
    files = sorted(path for path in SOURCE.rglob("*") if path.suffix in KINDS)
    found = {path.relative_to(SOURCE.parent).as_posix(): path.read_bytes() for path in files}
    for name, key in (("metadata.txt", "version="), ("requirements.txt", "aerialseg==")):
        path, line = f"{SOURCE.name}/{name}", f"{key}{version()}".encode()
        found[path] = re.sub(rb"(?m)^" + key.encode() + rb".*$", line, found[path])
    found[f"{SOURCE.name}/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    return found


def build(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{SOURCE.name}-{version()}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in contents().items():
            file.writestr(zipfile.ZipInfo(name, BEGINNING_OF_ZIP_TIME), data, zipfile.ZIP_DEFLATED)
    return path


if __name__ == "__main__":
    print(build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist"))
