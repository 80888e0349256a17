"""The versions, number and sizes of what pip installs for this checkout's wheel in an empty environment."""

from __future__ import annotations

import datetime
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINS = ROOT / "qgis_plugin" / "aerialseg_plugin" / "requirements.txt"


def run(*line: str | Path) -> str:
    return subprocess.run([str(one) for one in line], check=True, stdout=subprocess.PIPE, text=True).stdout


def size_mb(folder: Path, pattern: str) -> int:
    return round(sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file()) / 1e6)


def pin(wheels: Path, empty: Path) -> str:
    """The text of the requirements; the wheels lie in a folder then."""
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, ROOT)
    run(sys.executable, "-m", "venv", empty)
    pip = [empty / "bin" / "python", "-m", "pip", "-q", "--disable-pip-version-check"]
    run(*pip, "download", "--only-binary", ":all:", "-d", wheels, next(wheels.glob("aerialseg-*.whl")))
    before = size_mb(empty, "*")
    run(*pip, "install", "--no-index", "--find-links", wheels, "aerialseg")
    version = next(wheels.glob("aerialseg-*.whl")).name.split("-")[1]
    frozen = run(empty / "bin" / "python", "-m", "pip", "freeze").splitlines()
    frozen = [re.sub(r" @ .*", f"=={version}", line) for line in frozen]
    download, installed = size_mb(wheels, "*.whl"), size_mb(empty, "*") - before
    sizes = f"{download} MB to download, {installed} MB installed, {len(frozen)} packages"
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    head = f"# {sizes}\n# ({machine}, {datetime.date.today():%d %B %Y}); written by scripts/plugin-pins\n"
    return head + "".join(f"{line}\n" for line in sorted(frozen, key=str.lower))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        kept = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(scratch, "wheels")
        PINS.write_text(pin(kept, Path(scratch, "empty")), encoding="utf-8")
    print(PINS.read_text(encoding="utf-8"))
