"""Map land cover: from a raster layer, a file or a folder of tiles to polygons."""

from __future__ import annotations

import shlex
from pathlib import Path

from qgis.core import (
    QgsProcessing,
    QgsProcessingException,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorLayer,
)

from aerialseg_plugin.kept_run import KeptRun, RunPlace
from aerialseg_plugin.results import show_result

from . import drawing
from .base import AerialsegAlgorithm
from .inputs import file_and_layer, path_of, write_polygons

INPUT, FOLDER, EXTENT, AOI, MODEL, CORRECTIONS = "INPUT", "FOLDER", "EXTENT", "AOI", "MODEL", "CORRECTIONS"
RESOLUTION, PIXEL_SIZE, OPTIONS, RUN = "RESOLUTION", "PIXEL_SIZE", "OPTIONS", "RUN"
CLASSES, CONFIDENCE, REPORT = "CLASSES", "CONFIDENCE", "REPORT"
_RASTERS = {CLASSES: ("--raster", "Class raster"), CONFIDENCE: ("--confidence", "Confidence raster")}


class MapLandCover(AerialsegAlgorithm):
    ID = "maplandcover"
    TITLE = "Map land cover"
    HELP = f"""Maps the land cover of an orthophoto as polygons.

Give a raster layer (or file), or a folder of tiles, which are mapped as one orthophoto. To map a part of it, give an
extent or a layer of polygons as the area of interest.

Model: the folder of a model, such as one taught by you, or the name of an installed one (empty: the bundled model, for
imagery of 1 to 6 cm per pixel; its weights are for non-commercial use).

Corrections: a corrected layer of an earlier map. Its polygons with checked = true keep their class exactly.
{drawing.HELP}

Kept run: name a folder, and 'Redraw polygons' makes another layer from it without computing the classes again. A
cancelled run resumes from it; without it, nothing of a cancelled run stays."""

    def initAlgorithm(self, configuration=None) -> None:
        folder, polygons = QgsProcessingParameterFile.Behavior.Folder, [QgsProcessing.SourceType.TypeVectorPolygon]
        for parameter in (
            QgsProcessingParameterRasterLayer(INPUT, "Orthophoto", optional=True),
            QgsProcessingParameterFile(FOLDER, "Or a folder of tiles (one orthophoto)", folder, optional=True),
            QgsProcessingParameterExtent(EXTENT, "Extent to map (empty: all)", optional=True),
            QgsProcessingParameterFeatureSource(AOI, "Or polygons to map", polygons, optional=True),
            QgsProcessingParameterFile(MODEL, "Model: folder or name (empty: the bundled one)", folder, optional=True),
        ):
            self.addParameter(parameter)
        text = "Corrections: polygons of which the checked ones keep their class"
        self.addParameter(QgsProcessingParameterVectorLayer(CORRECTIONS, text, polygons, optional=True))
        drawing.add_drawing(self)
        double = QgsProcessingParameterNumber.Type.Double
        for name, text in (
            (RESOLUTION, "Resolution to work at (m per pixel; empty: the model's)"),
            (PIXEL_SIZE, "Pixel size of an orthophoto without a CRS (m per pixel)"),
        ):
            self.add_advanced(QgsProcessingParameterNumber(name, text, double, optional=True, minValue=0))
        text = "Further options of segment-raster, such as --tta"
        self.add_advanced(QgsProcessingParameterString(OPTIONS, text, optional=True))
        drawing.add_output(self)
        for name, (_, text) in _RASTERS.items():
            parameter = QgsProcessingParameterRasterDestination(name, text, optional=True, createByDefault=False)
            self.addParameter(parameter)
        page, kind = "Report to send around", "HTML files (*.html)"
        self.addParameter(
            QgsProcessingParameterFileDestination(REPORT, page, kind, optional=True, createByDefault=False)
        )
        self.addParameter(
            QgsProcessingParameterFolderDestination(RUN, "Kept run", optional=True, createByDefault=False)
        )

    def checkParameterValues(self, parameters, context) -> tuple[bool, str]:
        for one, other, what in ((INPUT, FOLDER, "an orthophoto or a folder"), (EXTENT, AOI, "an extent or polygons")):
            if parameters.get(one) and parameters.get(other):
                return False, f"Give either {what}, not both."
        if not parameters.get(INPUT) and not parameters.get(FOLDER):
            return False, "Give an orthophoto or a folder of tiles."
        return super().checkParameterValues(parameters, context)

    def processAlgorithm(self, parameters, context, feedback) -> dict[str, str]:
        layer = self.parameterAsRasterLayer(parameters, INPUT, context)
        if layer is None and parameters.get(INPUT):
            raise QgsProcessingException(self.invalidRasterError(parameters, INPUT))
        source = path_of(layer) if layer else self.parameterAsString(parameters, FOLDER, context)
        output = self.parameterAsOutputLayer(parameters, drawing.OUTPUT, context)
        rasters = {
            name: self.parameterAsOutputLayer(parameters, name, context) for name in _RASTERS if parameters.get(name)
        }
        report = self.parameterAsFileOutput(parameters, REPORT, context) if parameters.get(REPORT) else ""
        kept = self.parameterAsString(parameters, RUN, context) if parameters.get(RUN) else ""
        with RunPlace([output, *rasters.values()], kept) as place:
            call = [source, *self._settings(parameters, context), *self._area(parameters, context, layer, place)]
            if kept:
                KeptRun(kept).write(call)
            self.run_aerialseg(
                [
                    "segment",
                    *call,
                    *drawing.drawing_options(self, parameters, context),
                    *(f"{_RASTERS[name][0]}={path}" for name, path in rasters.items()),
                    *([f"--report={report}"] if report else []),
                    *(["--keep-run", str(KeptRun(kept).run)] if kept else []),
                    "--overwrite",
                    "--",
                    output,
                ],
                feedback,
            )
        found = self._results(context, output, rasters, f"Land cover of {Path(source).stem}")
        return {**found, **{name: path for name, path in ((REPORT, report), (RUN, kept)) if path}}

    def _settings(self, parameters, context) -> list[str]:
        model = self.parameterAsString(parameters, MODEL, context)
        more = shlex.split(self.parameterAsString(parameters, OPTIONS, context))
        numbers = self.number_options(parameters, context, {RESOLUTION: "--resolution", PIXEL_SIZE: "--pixel-size"})
        corrections = self.parameterAsVectorLayer(parameters, CORRECTIONS, context)
        return [
            *([f"--model={model}"] if model else []),
            *([f"--corrections={file_and_layer(corrections)}"] if corrections else []),
            *numbers,
            *more,
        ]

    def _area(self, parameters, context, layer, place: RunPlace) -> list[str]:
        polygons = self.parameterAsSource(parameters, AOI, context) if parameters.get(AOI) else None
        if polygons is not None:
            path = place.file("area-of-interest.gpkg")
            write_polygons(polygons, path, context)
            return [f"--aoi={path}"]
        if not parameters.get(EXTENT):
            return []
        crs, suffix = self.parameterAsExtentCrs(parameters, EXTENT, context), ""
        if layer is not None and layer.crs().isValid():
            box = self.parameterAsExtent(parameters, EXTENT, context, layer.crs())
        else:
            box = self.parameterAsExtent(parameters, EXTENT, context)
            suffix = f"@{crs.authid()}" if crs.authid() else ""
        numbers = (box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum())
        return [f"--aoi={','.join(repr(one) for one in numbers)}{suffix}"]

    def _results(self, context, output: str, rasters: dict[str, str], group: str) -> dict[str, str]:
        found = {drawing.OUTPUT: drawing.show_layer(context, output, group), **rasters}
        for name, path in rasters.items():
            show_result(context, path, path, _RASTERS[name][1], group, visible=False)
        return found
