"""The files that a run makes: checked before any work, put at their names when all of them are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aerialseg.errors import OutputError, UsageError
from aerialseg.files import absolute, check_place, printable
from aerialseg.locks import locked
from aerialseg.vector.existing import Contents, check_replaceable, names_of
from aerialseg.vector.formats import GEOPACKAGE, LAYER_NAME, ending_of, layer_files

LAYER, CLASSES, CONFIDENCE, REPORT, PAGE = "layer", "classes.tif", "confidence.tif", "report.json", "report.html"
AREAS = "areas.csv"
CONFIDENCE_STYLE = "confidence.qml"
"""Names of the products in a run's directory, whatever they are called in the end; the layer's has its ending too."""

ENDINGS = {
    CLASSES: (".tif", ".tiff"),
    CONFIDENCE: (".tif", ".tiff"),
    REPORT: (".json", ".html"),
    PAGE: (".html",),
    AREAS: (".csv",),
}

SIDECARS = (".aux.xml", ".ovr", ".msk")
"""What GDAL keeps beside a GeoTIFF; those of an older raster would be taken for the new one's."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Final names: the layer and, where wanted, the class raster, the confidence raster, the report and the areas.

    dissolve: the layer has a second one, which is a file of its own in some formats. layer_name: in a GeoPackage.
    """

    layer: Path
    raster: Path | None = None
    confidence: Path | None = None
    dissolve: bool = False
    report: Path | None = None
    layer_name: str = LAYER_NAME
    areas: Path | None = None

    @classmethod
    def check(
        cls,
        inputs: str | Path | Sequence[str | Path],
        layer: str | Path,
        raster: str | Path | None = None,
        confidence: str | Path | None = None,
        *,
        dissolve: bool = False,
        report: str | Path | None = None,
        areas: str | Path | None = None,
        overwrite: bool = False,
        published: Mapping[Path, bool] | None = None,
        layer_name: str = LAYER_NAME,
    ) -> Outputs:
        """The outputs, after every check that needs no work. ``published``: see `check_free`.

        Raises UsageError (wrong extension, the same file twice, exists without ``overwrite``, is an input or a sidecar
        of one by whatever name, a layer that is not ours) and OutputError (its folder is missing or cannot be written,
        it is open elsewhere or not what its ending says).
        """
        others = [absolute(path) if path else None for path in (raster, confidence, report, areas)]
        outputs = cls(absolute(layer), others[0], others[1], dissolve, others[2], layer_name, others[3])
        names = [os.path.normcase(path) for path in outputs.paths]
        if len(set(names)) < len(names):
            raise UsageError(f"two outputs have the same name: {', '.join(map(str, outputs.paths))}")
        for product, path in outputs.products.items():
            _check_name(path, ENDINGS.get(product, ()))
            check_place(path)
        check_not_inputs(outputs.touched, [inputs] if isinstance(inputs, (str, Path)) else inputs)
        outputs.check_free(overwrite=overwrite, published=published)
        return outputs

    @property
    def products(self) -> dict[str, Path]:
        """Name in the run's directory -> final name."""
        names = (file.name for file in layer_files(Path(self.layer_product), dissolve=self.dissolve))
        layers = zip(names, layer_files(self.layer, dissolve=self.dissolve), strict=True)
        kind = PAGE if self.report and self.report.suffix.lower() == ".html" else REPORT
        style = confidence_style(self.confidence, layer_files(self.layer, dissolve=self.dissolve))
        others = {CLASSES: self.raster, CONFIDENCE: self.confidence, CONFIDENCE_STYLE: style, kind: self.report}
        named = {**dict(layers), **others, AREAS: self.areas}
        return {name: path for name, path in named.items() if path is not None}

    @property
    def layer_product(self) -> str:
        """The layer's name in the run's directory. Raises UsageError for an ending that is no known format."""
        return LAYER + ending_of(self.layer)

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(self.products.values())

    @property
    def touched(self) -> dict[Path, Path]:
        """Every name at which a file may be replaced or removed -> the output that it belongs to."""
        return {
            path.with_name(path.name + end): path
            for path in self.paths
            for end in ("", *(SIDECARS if path in (self.raster, self.confidence) else ()))
        }

    def check_free(self, *, overwrite: bool, published: Mapping[Path, bool] | None = None) -> None:
        """Raise UsageError where a file stands that may not be replaced, OutputError where that cannot be done.

        published: files that an earlier try has put there -> whether they still are what it put; those may be replaced.
        """
        known = {} if published is None else published
        found = Contents()
        if ending_of(self.layer) == GEOPACKAGE:
            found = self._contents(overwrite=overwrite or known.get(self.layer, False))
        for there in self.touched:
            if overwrite or known.get(there) or not os.path.lexists(there):
                continue
            if there in known:
                raise UsageError(
                    f"output {there} was changed since this run wrote it: add --overwrite to replace it, or choose "
                    "another name"
                )
            if there == self.layer and not found.plain:
                raise UsageError(f"output {there} exists and {self._effect(found)}")
            raise UsageError(f"output {there} exists: add --overwrite to replace it")

    def _contents(self, *, overwrite: bool) -> Contents:
        try:
            return check_replaceable(self.layer, self.layer_name, dissolve=self.dissolve)
        except OutputError as error:
            if overwrite or not os.path.lexists(self.layer):
                raise
            raise UsageError(f"output {self.layer} exists: {error}") from error

    def _effect(self, found: Contents) -> str:
        """What a GeoPackage holds, and what would become of it."""
        does = f"replaces {names_of(found.replaced)}" if found.replaced else f"adds {self.layer_name!r}"
        holds = (
            f"holds {names_of(found.held)}"
            if found.held
            else "holds styles, projects or metadata that aerialseg did not make"
        )
        return f"{holds}: --overwrite {does} and keeps everything else"


def confidence_style(confidence: Path | None, layer: Sequence[Path]) -> Path | None:
    """The QGIS style beside a confidence raster, unless the layer's own has that name already."""
    style = None if confidence is None else confidence.with_suffix(".qml")
    return None if style in layer else style


@contextmanager
def lock_outputs(paths: Sequence[Path]) -> Iterator[None]:
    """Hold the names; OutputError "in use" where another living process does, wherever its run directory is."""
    with ExitStack() as stack:
        for path in paths:
            stack.enter_context(locked(lock_of(path), partial(_in_use, path), remove=True))
        yield


def lock_of(path: Path) -> Path:
    """The hidden file beside an output that is locked while a run makes it."""
    from aerialseg.vector.writing import part_of

    return part_of(path).with_suffix(".lock")


def _in_use(path: Path) -> str:
    return f"{printable(path)} is in use by another run: wait, or choose another output"


def check_not_inputs(touched: Mapping[Path, Path], inputs: Sequence[str | Path]) -> None:
    """Raise UsageError where a name that will be replaced or removed is that of an input or of a sidecar of one.

    touched: name -> the output that it belongs to. Links are followed: the file counts, not its name.
    """
    for source in inputs:
        for end in ("", *SIDECARS):
            for there, output in touched.items():
                if _is_same(there, f"{source}{end}"):
                    what = f"a file that belongs to the input {source}" if end else "the input itself"
                    via = "" if there == output else f" would replace or remove {there}, which"
                    raise UsageError(f"output {output}{via} is {what}: choose another name")


def _is_same(one: Path, other: str) -> bool:
    if os.path.abspath(other) == str(one):
        return True
    try:
        return os.path.samefile(one, other)
    except OSError:  # one is missing or remote: it is somebody else's to say so
        return False


def _check_name(path: Path, extensions: tuple[str, ...]) -> None:
    if extensions and path.suffix.lower() not in extensions:
        raise UsageError(f"output {path} must end in {' or '.join(extensions)}")
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise OutputError(f"output {printable(path)} is not valid UTF-8: choose another name or folder") from None
