"""A map against the truth, pixel by pixel: what ``aerialseg accuracy MAP TRUTH`` does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerialseg.errors import InputError, ModelError
from aerialseg.legend import NODATA, LandClass, Legend
from aerialseg.model.groups import Groups
from aerialseg.progress import Progress, Silent

if TYPE_CHECKING:
    from aerialseg.evaluation.scores import Confusion, Reliability
    from aerialseg.raster.classes import ClassFile
    from aerialseg.raster.grid import Box
    from aerialseg.raster.labels import Ids, Labels
    from aerialseg.raster.palette import Palette

PathLike = str | Path


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """A map compared with reference data, counted in pixels of the map.

    Attributes
    ----------
    classes, truth : Path
        The files compared.
    legend : Legend
        Classes of the map.
    confusion : Confusion
        Confusion matrix over the compared pixels, and the scores from it (``mean_iou``, ``pixel_accuracy`` ...).
    reliability : Reliability
        Calibration of the confidence, on compared pixels that have one. None without a confidence raster.
    compared : int, px
        Pixels that have a class in both.
    missed : int, px
        Pixels that have a class in the truth alone.
    untold : int, px
        Pixels that have a class in the map alone.
    pixel_m2 : float, m²
        Area of a pixel at the map's centre; None if unknown.
    ignored : mapping
        Class of the truth that is not in the map's legend -> pixels (px); they count as ``untold``.
    """

    classes: Path
    truth: Path
    legend: Legend
    confusion: Confusion
    reliability: Reliability | None
    compared: int
    missed: int
    untold: int
    pixel_m2: float | None
    ignored: Mapping[str, int] = field(default_factory=dict)

    @property
    def area_m2(self) -> float | None:
        """Area of the compared pixels, m²; None if unknown."""
        return None if self.pixel_m2 is None else self.compared * self.pixel_m2

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: counts, area and scores."""
        return {
            "classes": str(self.classes),
            "truth": str(self.truth),
            "pixels": {"compared": self.compared, "missed": self.missed, "untold": self.untold},
            "ignored": dict(self.ignored),
            "area_m2": None if self.area_m2 is None else round(self.area_m2, 2),
            "scores": self.confusion.to_json(self.legend),
            "calibration": None if self.reliability is None else self.reliability.to_json(),
        }


def assess_map(
    classes: PathLike,
    truth: PathLike,
    *,
    legend: PathLike | Legend | None = None,
    field: str = "class",
    layer: str | None = None,
    confidence: PathLike | None = None,
    ignore_unknown: bool = False,
    groups: PathLike | Groups | None = None,
    progress: Progress | None = None,
) -> Assessment:
    """Counts and scores of the class raster ``classes``, compared with the reference data ``truth``.

    Memory is constant. Classes are matched by name if both have names, otherwise by id.

    Parameters
    ----------
    classes : path
        The map: a GeoTIFF of class ids, 0 to 254.
    truth : path
        A class raster of any grid and coordinate reference system (nearest pixel), or polygons (.gpkg, .shp, .geojson,
        .fgb, .parquet).
    legend : Legend or path
        The map's classes, or a CSV file of them (id,name,r,g,b). Default: those in the raster.
    field : str
        Field of the polygons that holds the class, as name or id.
    layer : str
        Layer of the polygons, if the file has several.
    confidence : path
        Confidence raster on the map's grid, uint8, 0 to 100 %: its calibration is scored, too.
    ignore_unknown : bool
        Skip classes of the truth that are not in the map's legend; otherwise they are an error.
    groups : Groups or path
        Groups to compare instead of single classes, or the CSV file ``class,group`` of them, with the classes of map
        and truth: of a class without a group no pixel is compared. The group's own name may stand for it.
    progress : Progress
        Listener for stages and messages.

    Raises
    ------
    InputError
        A file cannot be read, the two do not overlap, or the map lacks a class of the truth.
    UsageError
        ``layer`` is given, but ``truth`` is a raster.
    """
    from aerialseg.raster.bounds import check_overlap
    from aerialseg.raster.classes import ClassFile, check_confidence
    from aerialseg.raster.labels import open_labels
    from aerialseg.raster.palette import read_palette

    listener, given = progress or Silent(), _given(legend)
    with ExitStack() as stack:
        map_file = stack.enter_context(ClassFile(classes))
        rated = None if confidence is None else stack.enter_context(ClassFile(confidence))
        if rated is not None:
            check_confidence(rated, map_file)
        palette = read_palette(classes)
        known = given or (_with_data_names(palette.legend(()), map_file) if palette.names else None)
        table = _grouping(groups, known, map_file.path)
        wanted = table.known if table else known
        labels = open_labels(truth, wanted, field=field, layer=layer, by_name=True, ignore_unknown=ignore_unknown)
        stack.callback(labels.close)
        check_overlap(map_file.path, map_file.geo, labels.path, labels.crs, labels.bounds)
        tally = _Tally(map_file, labels, rated, given, table)
        tally.count(listener)
    return tally.assessment(table.legend if table else given, palette)


def _given(legend: PathLike | Legend | None) -> Legend | None:
    return legend if isinstance(legend, Legend) or legend is None else Legend.from_csv(legend)


def _with_data_names(legend: Legend, file: ClassFile) -> Legend:
    """The map's classes, which it calls by their titles, with the names that its model has for them if it is here."""
    from aerialseg.model.store import load_card

    model = file.dataset.tags().get("model", "")
    try:
        known = load_card(model).legend if model else Legend(())
    except ModelError:
        return legend
    names = {(entry.id, entry.on_maps.name): entry.name for entry in known}
    return Legend(tuple(replace(c, name=names.get((c.id, c.name), c.name), title=c.name) for c in legend))


@dataclass(frozen=True, slots=True)
class _Grouping:
    """Classes of map and truth by their ids, and the groups that they belong to."""

    known: Legend
    legend: Legend
    table: Groups

    def of(self, ids: Ids, path: Path) -> Ids:
        """The groups of ids, 255 where there is none. Raises InputError for a class that the table does not name."""
        import numpy as np

        numbers = np.full(NODATA + 1, NODATA, np.uint8)
        for one in np.setdiff1d(ids, [NODATA]).tolist():
            entry = self.known[one] if one in self.known else LandClass(one, f"class {one}", (0, 0, 0))
            group = self.table.of(entry, str(path))
            numbers[one] = NODATA if group < 0 else group
        found: Ids = numbers[ids]
        return found


def _grouping(groups: PathLike | Groups | None, known: Legend | None, path: Path) -> _Grouping | None:
    if groups is None:
        return None
    if known is None:
        raise InputError(f"the classes of {path} have no names, and groups are matched by name: give the map's legend")
    table = groups if isinstance(groups, Groups) else Groups.from_csv(groups)
    others = [name for name in table.members if name not in known.names]
    # From above: a raster whose ids have no names is then refused, not read by numbers that were made up here.
    free = (number for number in reversed(range(NODATA)) if number not in known)
    more = [LandClass(number, name, (0, 0, 0)) for number, name in zip(free, others, strict=False)]
    return _Grouping(Legend((*known, *reversed(more))), table.legend(known), table)


class _Tally:
    """Counts over all windows of the map."""

    def __init__(
        self,
        file: ClassFile,
        labels: Labels,
        rated: ClassFile | None,
        legend: Legend | None,
        groups: _Grouping | None = None,
    ) -> None:
        from aerialseg.evaluation.scores import Confusion, Reliability

        self.file, self.labels, self.rated, self.legend, self.groups = file, labels, rated, legend, groups
        self.confusion = Confusion.empty(NODATA)
        self.reliability = None if rated is None else Reliability.empty()
        self.missed, self.untold = 0, 0

    def count(self, progress: Progress) -> None:
        from aerialseg.evaluation.scores import Confusion, Reliability
        from aerialseg.raster.classes import to_percent

        progress.stage("Comparing", math.prod(self.file.geo.shape))
        for box in self.file.windows():
            mapped = self._mapped(box)
            truth = self.labels.burn(self.file.geo.part(box))
            if self.groups is not None:
                mapped, truth = self.groups.of(mapped, self.file.path), self.groups.of(truth, self.labels.path)
            self.missed += int(((truth != NODATA) & (mapped == NODATA)).sum())
            self.untold += int(((truth == NODATA) & (mapped != NODATA)).sum())
            truth[mapped == NODATA] = NODATA
            self.confusion += Confusion.of(truth, mapped, NODATA)
            if self.rated is not None and self.reliability is not None:
                said = to_percent(self.rated.read(box), self.rated.path)
                truth[said == NODATA] = NODATA
                self.reliability += Reliability.of(truth, mapped, said)
            progress.advance(box.area)

    def _mapped(self, box: Box) -> Ids:
        """Ids of the map as bytes. Raises InputError for one that the legend has not, or no legend can have."""
        import numpy as np

        from aerialseg.raster.classes import to_bytes

        ids = to_bytes(self.file.read(box), self.file.path)
        known = range(NODATA) if self.legend is None else [entry.id for entry in self.legend]
        wrong = np.setdiff1d(ids, [*known, NODATA])
        if len(wrong):
            raise InputError(
                f"{self.file.path} has the class {wrong[0]}, which is not in the legend: give the legend of this map"
            )
        return ids

    def assessment(self, given: Legend | None, palette: Palette) -> Assessment:
        from aerialseg.evaluation.scores import Confusion

        counts = self.confusion.counts
        compared = int(counts.sum())
        if not compared:
            raise InputError(
                f"{self.file.path} and {self.labels.path} overlap, but no pixel has a class in both "
                f"({self.missed:,} px of truth have no class in the map): nothing to compare"
            )
        present = (counts.sum(axis=0) + counts.sum(axis=1)).nonzero()[0]
        legend = Legend(tuple(entry for entry in given or palette.legend(present.tolist()) if entry.id < NODATA))
        size = max(entry.id for entry in legend) + 1
        return Assessment(
            classes=self.file.path,
            truth=self.labels.path,
            legend=legend,
            confusion=Confusion(counts[:size, :size]),
            reliability=self.reliability,
            compared=compared,
            missed=self.missed,
            untold=self.untold,
            pixel_m2=_pixel_m2(self.file),
            ignored=dict(self.labels.ignored),
        )


def _pixel_m2(file: ClassFile) -> float | None:
    size = file.geo.pixel_size_m if file.placed else None
    return None if size is None else size[0] * size[1]
