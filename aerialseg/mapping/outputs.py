"""The files that a run makes: checked before any work, put at their names when all of them are whole."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from aerialseg.errors import OutputError, UsageError
from aerialseg.files import absolute
from aerialseg.vector.formats import GEOPACKAGE, ending_of, layer_files

LAYER, CLASSES, CONFIDENCE, REPORT = "layer", "classes.tif", "confidence.tif", "report.json"
"""Names of the products in a run's directory, whatever they are called in the end; the layer's has its ending too."""

ENDINGS = {CLASSES: (".tif", ".tiff"), CONFIDENCE: (".tif", ".tiff"), REPORT: (".json",)}

SIDECARS = (".aux.xml", ".ovr", ".msk")
"""What GDAL keeps beside a GeoTIFF; those of an older raster would be taken for the new one's."""

SQLITE_LOGS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a GeoPackage that is open somewhere; it would be replayed into the new one."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Final names: the layer and, where wanted, the class raster, the confidence raster and the report.

    dissolve: the layer has a second one, which is a file of its own in some formats.
    """

    layer: Path
    raster: Path | None = None
    confidence: Path | None = None
    dissolve: bool = False
    report: Path | None = None

    @classmethod
    def check(
        cls,
        source: str | Path,
        layer: str | Path,
        raster: str | Path | None = None,
        confidence: str | Path | None = None,
        *,
        dissolve: bool = False,
        report: str | Path | None = None,
        overwrite: bool = False,
        ours: Collection[Path] = (),
    ) -> Outputs:
        """The outputs, after every check that needs no work. ``ours`` may be replaced: an earlier try put them there.

        Raises UsageError (wrong extension, the same file twice, exists without ``overwrite``, is the input by
        whatever name) and OutputError (its folder is missing or cannot be written, it is open elsewhere).
        """
        others = [absolute(path) if path else None for path in (raster, confidence, report)]
        outputs = cls(absolute(layer), others[0], others[1], dissolve, others[2])
        names = [os.path.normcase(path) for path in outputs.paths]
        if len(set(names)) < len(names):
            raise UsageError(f"two outputs have the same name: {', '.join(map(str, outputs.paths))}")
        for product, path in outputs.products.items():
            _check_name(path, ENDINGS.get(product, ()))
            _check_not_input(path, source)
            _check_place(path)
        outputs.check_free(overwrite=overwrite, ours=ours)
        return outputs

    @property
    def products(self) -> dict[str, Path]:
        """Name in the run's directory -> final name."""
        names = (file.name for file in layer_files(Path(self.layer_product), dissolve=self.dissolve))
        layers = zip(names, layer_files(self.layer, dissolve=self.dissolve), strict=True)
        others = ((CLASSES, self.raster), (CONFIDENCE, self.confidence), (REPORT, self.report))
        return {name: path for name, path in (*layers, *others) if path is not None}

    @property
    def layer_product(self) -> str:
        """The layer's name in the run's directory. Raises UsageError for an ending that is no known format."""
        return LAYER + ending_of(self.layer)

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(self.products.values())

    @property
    def _rasters(self) -> tuple[Path | None, ...]:
        return self.raster, self.confidence

    def check_free(self, *, overwrite: bool, ours: Collection[Path] = ()) -> None:
        """Raise UsageError where a file stands that may not be replaced, OutputError where one is open elsewhere."""
        for path in self.paths:
            beside = [path.with_name(path.name + end) for end in SIDECARS] if path in self._rasters else []
            for there in (path, *beside):
                if os.path.exists(there) and not overwrite and path not in ours:
                    raise UsageError(f"output {there} exists: add --overwrite to replace it")
        for end in SQLITE_LOGS if ending_of(self.layer) == GEOPACKAGE else ():
            log = f"{self.layer}{end}"
            if os.path.exists(log):
                raise OutputError(
                    f"{self.layer} is open in another program, for {log} exists: close it there first "
                    "(or delete that file if no program has the layer open)"
                )

    def publish(self, folder: Path) -> None:
        """Move the finished files from ``folder`` to their names, rasters first, the layer last.

        Each move is a rename on one file system, so a name never holds half a file. Raises OutputError.
        """
        for product, final in reversed(self.products.items()):
            for end in SIDECARS:
                beside = folder / (product + end)
                if os.path.exists(beside):
                    _move(beside, final.with_name(final.name + end))
                elif final in self._rasters:
                    with contextlib.suppress(FileNotFoundError):
                        final.with_name(final.name + end).unlink()
            _move(folder / product, final)


def _check_name(path: Path, extensions: tuple[str, ...]) -> None:
    if extensions and path.suffix.lower() not in extensions:
        raise UsageError(f"output {path} must end in {' or '.join(extensions)}")
    try:
        path.name.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"output {path.name!r} is not valid UTF-8: choose another name") from None


def _check_not_input(path: Path, source: str | Path) -> None:
    try:
        same = os.path.exists(path) and os.path.samefile(path, source)
    except OSError:  # the input is missing or remote: it is somebody else's to say so
        same = False
    if same or os.path.abspath(source) == str(path):
        raise UsageError(f"output {path} is the input itself: choose another name")


def _check_place(path: Path) -> None:
    if os.path.isdir(path):
        raise UsageError(f"output {path} is a directory: give a file's name")
    if not os.path.isdir(path.parent):
        raise OutputError(f"the folder {path.parent} of output {path.name} does not exist: make it first")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"the folder {path.parent} cannot be written: choose another one")


def _move(part: Path, final: Path) -> None:
    from aerialseg.files import cannot_write, publish

    try:
        near = part
        if part.stat().st_dev != final.parent.stat().st_dev:
            near = final.with_name(f".{abs(hash(final.name)):x}.part")
            shutil.copyfile(part, near)
    except OSError as error:
        if near != part:
            near.unlink(missing_ok=True)
        raise cannot_write(final, error) from error
    publish(near, final)
