"""What QGIS shows of a layer under "Information" and "Metadata": where it is from, under which terms it may be used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from pyproj import CRS

STANDARD = "http://mrcc.com/qgis.dtd"
"""By this URI QGIS knows its own metadata in a GeoPackage."""

MARK = "<!-- aerialseg -->"
"""In ours alone: QGIS writes no comments, so what a person has changed there does not have it."""

_HISTORY = {
    "software": "made by",
    "model": "model",
    "model_digest": "digest of the model",
    "numerics": "computed in",
    "source": "made from",
    "source_sha256": "SHA-256 of the source",
    "source_note": "resolution",
    "area_of_interest": "area of interest",
    "tiling": "tiles",
    "plan_digest": "digest of the settings",
    "confidence_by_class": "mean confidence",
}
"""Key of the provenance -> how it is called, in the order of the work."""


def qgis_metadata(
    about: Mapping[str, str], description: str, classes: Sequence[str], extent: Sequence[float | None], crs: str | None
) -> str:
    """The metadata of one layer as QGIS's XML.

    about: provenance, as it travels inside all products. classes: names of those that occur. extent: (left, bottom,
    right, top) in the CRS, None where the layer is empty. Files are named without their folders.
    """
    root = Element("qgis", version="3.22.0-Białowieża")
    licence, model = about.get("model_licence", ""), about.get("model", "")
    texts = {
        "identifier": about.get("plan_digest", about.get("source_sha256", ""))[:16],
        "language": "ENG",
        "type": "dataset",
        "title": about.get("title", description),
        "abstract": _abstract(about, description, classes),
    }
    for name, text in texts.items():
        SubElement(root, name).text = text
    keywords = SubElement(root, "keywords", vocabulary="gmd:topicCategory")
    SubElement(keywords, "keyword").text = "Imagery base maps earth cover"
    words = SubElement(root, "keywords", vocabulary="aerialseg")
    for word in ("land cover", *filter(None, [model]), *classes):
        SubElement(words, "keyword").text = word
    for key, name in _HISTORY.items():
        if key in about:
            SubElement(root, "history").text = f"{name}: {_without_folders(about[key])}"
    if licence:
        SubElement(root, "rights").text = licence
        SubElement(root, "license").text = licence
        SubElement(root, "constraints", type="license").text = licence
    _place(root, extent, crs)
    indent(root)
    return f"<!DOCTYPE qgis PUBLIC '{STANDARD}' 'SYSTEM'>\n{MARK}\n" + tostring(root, encoding="unicode")


def _abstract(about: Mapping[str, str], description: str, classes: Sequence[str]) -> str:
    source, model = about.get("source", ""), about.get("model", "")
    made = f"Made from {_without_folders(source)}" if source else "Made from a class raster"
    lines = [
        f"{description}.",
        f"{made} by the model {model}." if model else f"{made}.",
        f"Classes: {', '.join(classes)}." if classes else "No class occurs.",
    ]
    if "mean_confidence" in about:
        mean, low = (float(about[key]) for key in ("mean_confidence", "low_confidence_share"))
        lines.append(f"Mean confidence {mean:.0%}; below 50 % on {low:.0%} of the area.")
    if "warning" in about:
        lines.append(f"Warning: {about['warning']}.")
    return "\n".join(lines)


def _without_folders(text: str) -> str:
    """Paths become file names; addresses stay."""
    return re.sub(r"(?<![\w:/\\.])(?:[A-Za-z]:)?[/\\](?:[^/\\;,]+[/\\])*([^/\\;,]+)", r"\1", text)


def _place(root: Element, extent: Sequence[float | None], crs: str | None) -> None:
    if crs is None:
        return
    system = reference_system(crs)
    SubElement(root, "crs").append(system)
    name = system.findtext("authid", "")
    sides = [repr(float(side)) for side in extent if side is not None]
    if len(sides) == 4:
        values = dict(zip(("minx", "miny", "maxx", "maxy"), sides, strict=True))
        place = {"crs": name, "dimensions": "2", "minz": "0", "maxz": "0", **values}
        SubElement(SubElement(root, "extent"), "spatial", place)


def reference_system(crs: str) -> Element:
    """A coordinate system as QGIS writes it."""
    known = CRS.from_user_input(crs)
    authority = known.to_authority()
    system = Element("spatialrefsys", nativeFormat="Wkt")
    SubElement(system, "wkt").text = known.to_wkt()
    SubElement(system, "authid").text = ":".join(authority) if authority else ""
    return system
