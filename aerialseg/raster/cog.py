"""Cloud Optimized GeoTIFFs: classes with colours and names, confidence as per cent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.io import MemoryFile

from aerialseg.files import cannot_write, printable, write_atomically
from aerialseg.legend import NODATA, Legend
from aerialseg.raster.blocks import TILE, check_whole
from aerialseg.raster.classes import ClassFile, to_bytes
from aerialseg.raster.opening import GDAL_ERRORS, gdal_environment, has_transform, open_raster, without_georef_warnings
from aerialseg.raster.palette import aux_xml, color_table

_OPTIONS = {
    "COMPRESS": "DEFLATE",
    "BLOCKSIZE": TILE,
    "BIGTIFF": "IF_SAFER",
    "NUM_THREADS": "ALL_CPUS",
    "OVERVIEWS": "IGNORE_EXISTING",
    "STATISTICS": "AUTO",  # as the recipe has them
}


def aux_path(path: Path) -> Path:
    """The file beside a raster that names its classes."""
    return path.with_name(path.name + ".aux.xml")


def write_cog(source_path: Path, target_path: Path, *, legend: Legend | None, metadata: Mapping[str, str]) -> None:
    """Write the one-band uint8 raster at ``source_path`` as a Cloud Optimized GeoTIFF, nodata 255.

    With a legend it is a class raster: colour table, overviews by mode, and beside it ``.aux.xml`` with the names of
    the classes and a raster attribute table. Without, it is confidence in per cent, overviews by average. ``metadata``
    becomes TIFF tags, and so do the band's statistics: QGIS measures and stretches nothing, and writes no file beside
    it. Both files appear only when they are whole. Raises OutputError.
    """
    with write_atomically(target_path, errors=GDAL_ERRORS) as part:
        resampling = "MODE" if legend else "AVERAGE"
        with gdal_environment(alone=True), MemoryFile(_recipe(source_path, legend, metadata), ext=".vrt") as recipe:
            with without_georef_warnings():
                source = recipe.open(driver="VRT")
            with source:
                rasterio.shutil.copy(source, part, driver="COG", OVERVIEW_RESAMPLING=resampling, **_OPTIONS)
        aux_path(part).unlink(missing_ok=True)  # GDAL's own; ours says more
        check_whole(part)
        if legend:
            with write_atomically(aux_path(target_path), errors=GDAL_ERRORS) as names:
                names.write_bytes(aux_xml(legend))
        else:
            _remove(aux_path(target_path))


def read_tags(path: Path) -> dict[str, str]:
    """The metadata that a product of ours carries as TIFF tags. Raises InputError."""
    with open_raster(str(path)) as dataset:
        return dict(dataset.tags())


def _remove(path: Path) -> None:
    """Remove the names that belong to an older raster of that name."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def _recipe(source: Path, legend: Legend | None, metadata: Mapping[str, str]) -> bytes:
    """A VRT that adds colours, description and tags to the source, which stays as it is."""
    with without_georef_warnings():
        dataset = rasterio.open(source, driver="GTiff", sharing=False)
    with dataset:
        (height, width), crs, transform = dataset.shape, dataset.crs, dataset.transform
        placed = has_transform(dataset)
        block = dataset.block_shapes[0]
    root = Xml.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    if crs:
        Xml.SubElement(root, "SRS", dataAxisToSRSAxisMapping="1,2").text = crs.to_wkt()
    if placed:
        Xml.SubElement(root, "GeoTransform").text = ", ".join(repr(float(value)) for value in transform.to_gdal())
    tags = Xml.SubElement(root, "Metadata")
    for key, value in metadata.items():
        Xml.SubElement(tags, "MDI", key=printable(key)).text = printable(value)
    root.append(_band(source, (height, width), block, legend))
    return bytes(Xml.tostring(root, encoding="utf-8"))


def _band(source: Path, shape: tuple[int, int], block: tuple[int, int], legend: Legend | None) -> Xml.Element:
    band = Xml.Element("VRTRasterBand", dataType="Byte", band="1", blockXSize=str(block[1]), blockYSize=str(block[0]))
    Xml.SubElement(band, "Description").text = "land cover" if legend else "confidence, per cent"
    Xml.SubElement(band, "NoDataValue").text = str(NODATA)
    Xml.SubElement(band, "ColorInterp").text = "Palette" if legend else "Gray"
    if legend:
        band.append(color_table(legend, NODATA))
    statistics = Xml.SubElement(band, "Metadata")
    for key, value in _statistics(source, rated=legend is None).items():
        Xml.SubElement(statistics, "MDI", key=f"STATISTICS_{key}").text = value
    simple = Xml.SubElement(band, "SimpleSource")
    Xml.SubElement(simple, "SourceFilename", relativeToVRT="0").text = str(source.absolute())
    Xml.SubElement(simple, "SourceBand").text = "1"
    rectangle = {"xOff": "0", "yOff": "0", "xSize": str(shape[1]), "ySize": str(shape[0])}
    Xml.SubElement(simple, "SrcRect", rectangle)
    Xml.SubElement(simple, "DstRect", rectangle)
    return band


def _statistics(source: Path, *, rated: bool) -> dict[str, str]:
    """What GDAL calls the statistics of a band; none where all of it is nodata.

    As minimum and maximum of a confidence raster they say its scale, 0 and 100: so two maps look alike everywhere.
    """
    counts = np.zeros(NODATA + 1, np.int64)
    with ClassFile(source) as file:
        for box in file.windows():
            counts += np.bincount(to_bytes(file.read(box), file.path).ravel(), minlength=counts.size)
    total, known = int(counts.sum()), counts[:NODATA]
    values, pixels = np.flatnonzero(known), int(known.sum())
    if not pixels:
        return {}
    mean = float(known @ np.arange(NODATA)) / pixels
    spread = math.sqrt(float(known @ (np.arange(NODATA) - mean) ** 2) / pixels)
    low, high = (0, 100) if rated else (values[0], values[-1])
    found = {"MINIMUM": f"{low}", "MAXIMUM": f"{high}", "MEAN": f"{mean:.6g}", "STDDEV": f"{spread:.6g}"}
    return {**found, "VALID_PERCENT": f"{100 * pixels / total:.4g}"}
