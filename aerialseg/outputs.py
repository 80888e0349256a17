"""The files that a run makes: checked before any work, put at their names when all of them are whole."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from aerialseg.errors import OutputError, UsageError

SIDECAR = ".aux.xml"
"""What GDAL keeps beside a GeoTIFF: class names and the attribute table."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Final names: the layer and, where wanted, the class raster and the confidence raster."""

    layer: Path
    raster: Path | None = None
    confidence: Path | None = None

    @classmethod
    def check(
        cls,
        source: str | Path,
        layer: str | Path,
        raster: str | Path | None = None,
        confidence: str | Path | None = None,
        *,
        overwrite: bool = False,
    ) -> Outputs:
        """The outputs, after every check that needs no work.

        Raises UsageError (wrong extension, the same file twice, exists without ``overwrite``, is the input by
        whatever name) and OutputError (its folder is missing or cannot be written).
        """
        outputs = cls(_absolute(layer), *(_absolute(path) if path else None for path in (raster, confidence)))
        for path, wanted in zip(outputs.paths, outputs._extensions, strict=True):
            _check_name(path, wanted)
            _check_not_input(path, source)
            _check_place(path, overwrite=overwrite)
        names = [os.path.normcase(path) for path in outputs.paths]
        if len(set(names)) < len(names):
            raise UsageError(f"two outputs have the same name: {', '.join(map(str, outputs.paths))}")
        return outputs

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.layer, self.raster, self.confidence) if path is not None)

    @property
    def _extensions(self) -> list[tuple[str, ...]]:
        rasters = [path for path in (self.raster, self.confidence) if path is not None]
        return [(".gpkg",), *[(".tif", ".tiff")] * len(rasters)]

    def publish(self, folder: Path) -> None:
        """Move the finished files from ``folder`` to their names, rasters first, the layer last.

        Each move is a rename on one file system, so a name never holds half a file. Raises OutputError.
        """
        _check_not_open(self.layer)
        for final in reversed(self.paths):
            sidecar = folder / (final.name + SIDECAR)
            if sidecar.exists():
                _move(sidecar, final.with_name(final.name + SIDECAR))
            _move(folder / final.name, final)


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(path))


def _check_name(path: Path, extensions: tuple[str, ...]) -> None:
    if path.suffix.lower() not in extensions:
        raise UsageError(f"output {path} must end in {' or '.join(extensions)}")


def _check_not_input(path: Path, source: str | Path) -> None:
    try:
        same = path.exists() and os.path.samefile(path, source)
    except OSError:  # the input is missing or remote: it is somebody else's to say so
        same = False
    if same or os.path.abspath(source) == str(path):
        raise UsageError(f"output {path} is the input itself: choose another name")


def _check_place(path: Path, *, overwrite: bool) -> None:
    if path.is_dir():
        raise UsageError(f"output {path} is a directory: give a file's name")
    if path.exists() and not overwrite:
        raise UsageError(f"output {path} exists: add --overwrite to replace it")
    _check_not_open(path)
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} of output {path.name} does not exist: make it first")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"the folder {path.parent} cannot be written: choose another one")


def _check_not_open(layer: Path) -> None:
    """SQLite would replay a write-ahead log that belongs to the old file into the new one."""
    log = layer.with_name(layer.name + "-wal")
    if log.exists() and log.stat().st_size:
        raise OutputError(f"{layer} is open in another program ({log.name} lies beside it): close it there first")


def _move(part: Path, final: Path) -> None:
    from aerialseg.raster.sink import publish

    try:
        if part.stat().st_dev != final.parent.stat().st_dev:
            near = final.with_name(f".{final.name[:100]}.part")
            shutil.copyfile(part, near)
            part = near
    except OSError as error:
        reason = "no space left" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise OutputError(f"cannot write {final}: {reason}") from error
    publish(part, final)
