"""The formats that one raster may have: GDAL's driver for each, told by the first bytes of the file."""

from __future__ import annotations

import re
from pathlib import Path

DRIVERS = {
    "GTiff": rb"(II|MM)(\*\0|\0\*|\+\0|\0\+)",
    "JP2OpenJPEG": rb"\0\0\0\x0cjP  |\xffO\xffQ",
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF....WEBP",
    "GPKG": rb"SQLite format 3\0.{52}GP",
    "MBTiles": rb"SQLite format 3\0",
}
"""Driver -> how its files begin, the first that fits. Each is named when a file is opened: GDAL picks none."""
HEAD_BYTES = 256
"""What `driver_of` needs to see."""
NAMES = {"GTiff": "GeoTIFF", "JP2OpenJPEG": "JPEG 2000", "WEBP": "WebP", "GPKG": "GeoPackage"}
"""Names for people, where they differ from the driver's."""
FORMATS = ", ".join(NAMES.get(driver, driver) for driver in DRIVERS)

_CONVERT = "convert it: gdal_translate -of GTiff -co COMPRESS=DEFLATE -co TILED=YES"
_PLUGIN = "which needs a GDAL with the {} plugin (QGIS on Windows has it)"
_EXTRACT = "and give the raster inside"
_REFUSED = {
    rb"$": "it is empty; fetch or export it again",
    rb"\s*<(!doctype html|html)": "it is an HTML page (a failed download?); fetch it again",
    rb"\s*<(vrtdataset|mrf_meta|gdal)": "it is a text file that points at other rasters, and those are not followed; "
    f"{_CONVERT} IN OUT.tif",
    rb"pk\x03\x04": f"it is a ZIP archive; extract it (unzip FILE) {_EXTRACT}",
    rb"7z\xbc\xaf\x27\x1c": f"it is a 7z archive; extract it (7z x FILE) {_EXTRACT}",
    rb"\x1f\x8b": f"it is compressed with gzip; extract it (gunzip or tar -xzf FILE) {_EXTRACT}",
    rb"msid": f"it is MrSID; {_CONVERT} IN.sid OUT.tif, {_PLUGIN.format('MrSID')}",
}
"""How other files begin, in lower case -> what they are and what to do."""
_ECW = f"it is ECW; {_CONVERT} IN.ecw OUT.tif, {_PLUGIN.format('ECW')}"


def driver_of(head: bytes) -> str | None:
    """GDAL's driver for a file that begins so; None where it is not one that we open."""
    return next((driver for driver, magic in DRIVERS.items() if re.match(magic, head, re.DOTALL)), None)


def why_refused(path: Path, head: bytes) -> str:
    """What a file is for which there is no driver, and what to do."""
    for magic, text in _REFUSED.items():
        if re.match(magic, head.lower()):
            return text
    if path.suffix.lower() == ".ecw":
        return _ECW
    return f"it starts with {head[:4]!r}; if gdalinfo can read it, {_CONVERT} IN OUT.tif"
