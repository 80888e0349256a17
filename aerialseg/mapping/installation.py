"""What is installed here, what would compute a map and why, and what to install for what else."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aerialseg._version import __version__
from aerialseg.errors import AerialsegError
from aerialseg.model.cpu import cpu_threads, has_bf16, has_openvino, may_have_gpu, multiplies_int8
from aerialseg.model.device import choose, free_bytes
from aerialseg.model.folders import user_folder
from aerialseg.model.listing import find_models
from aerialseg.model.store import load_card
from aerialseg.progress import spoken_bytes
from aerialseg.raster.gdal_drivers import drivers_found, gdal_version
from aerialseg.raster.kernel import kernel_cache

PACKAGES = ("numpy", "numba", "rasterio", "pyogrio", "shapely", "pyproj", "openvino", "torch", "fastai", "onnx", "dask")
EXTRAS = {
    "gpu": ("torch", "an NVIDIA GPU, and models that cannot be exact"),
    "train": ("fastai", "training, converting and quantizing models"),
    "onnx": ("onnx", "exporting models to ONNX, bringing old ones up to date"),
    "scenes": ("cv2", "matching frames of one scene, evaluating on masks"),
    "dask": ("distributed", "several machines (--dask)"),
    "stac": ("pystac", "STAC collections"),
}
"""Extra -> (a package that it brings, what it is for)."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What is here. versions: "" for what is not installed. compute: what would compute a map with the bundled model,
    such as "cpu openvino bf16", or the reason why nothing can (not ``usable``). why: the facts behind that.

    models: reference and folder. caches: what is kept and where. drivers: GDAL's. missing: extras -> what they are for.
    """

    versions: dict[str, str]
    compute: str
    usable: bool
    why: list[str]
    models: dict[str, str]
    caches: dict[str, str]
    drivers: dict[str, bool]
    missing: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """For people."""
        yield "versions"
        yield from (f"  {name:<12} {version or '-'}" for name, version in self.versions.items())
        yield "a map would be computed by" if self.usable else "no map can be computed"
        yield f"  {self.compute}"
        yield from (f"  {fact}" for fact in self.why)
        for title, values in (("models", self.models), ("caches", self.caches)):
            yield title
            yield from (f"  {name}: {value}" for name, value in values.items())
        yield "GDAL drivers"
        lacking = [name for name, found in self.drivers.items() if not found]
        yield f"  found: {', '.join(name for name, found in self.drivers.items() if found)}"
        yield from ([f"  not found: {', '.join(lacking)}"] if lacking else [])
        yield "not installed" if self.missing else "everything is installed"
        yield from (f"  pip install 'aerialseg[{extra}]'  {use}" for extra, use in self.missing.items())


def describe_installation() -> Installation:
    """What is installed here. Nothing is written, and torch is imported only where there is a driver of a GPU."""
    compute, usable = _compute()
    return Installation(
        versions={
            "aerialseg": __version__,
            "Python": f"{platform.python_version()} ({sys.platform} {platform.machine()})",
            "GDAL": gdal_version(),
            **{name: _version(name) for name in PACKAGES},
        },
        compute=compute,
        usable=usable,
        why=list(_facts()),
        models={entry.ref: entry.problem or str(entry.folder) for entry in find_models()},
        caches={"compiled loops": _folder(kernel_cache()), "models that were added": _folder(user_folder())},
        drivers=drivers_found(),
        missing={extra: use for extra, (package, use) in EXTRAS.items() if find_spec(package) is None},
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _compute() -> tuple[str, bool]:
    try:
        return choose("auto", "auto", "auto", load_card()).numerics, True
    except AerialsegError as error:
        return str(error), False


def _facts() -> Iterator[str]:
    yield "a driver of a GPU is there" if may_have_gpu() else "no driver of a GPU was found"
    if has_openvino():
        yield f"the processor computes in bf16: {_yes(has_bf16())}"
        yield f"the processor multiplies 8-bit integers: {_yes(multiplies_int8())}"
    else:
        yield "openvino cannot be loaded"
    yield f"{cpu_threads()} threads, {spoken_bytes(int(free_bytes('cpu')))} of memory free"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _folder(path: Path) -> str:
    if not path.is_dir():
        return f"{path} (nothing yet)"
    size = sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    return f"{path} ({spoken_bytes(size)})"
