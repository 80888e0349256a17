"""The project inside a GeoPackage: QGIS opens the layers in groups, above the rasters they were made from."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, fromstring, indent, tostring

from aerialseg.files import printable
from aerialseg.legend import Legend
from aerialseg.raster.ramp import ramp_pipe
from aerialseg.vector.qgis import DOCTYPE, VERSION, Style
from aerialseg.vector.qgis_metadata import reference_system

OUR_PROJECT = """metadata LIKE '%"software": "aerialseg"%'"""
"""Of ``qgis_projects``: as we wrote it. QGIS writes the column anew when a person saves the project."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first time that a zip file can name: the same content gives the same bytes."""


@dataclass(frozen=True, slots=True)
class Image:
    """An orthophoto: its bands and alpha (0: none) count from 1; ``scale``: what is drawn as 0 and 255 (see Piece)."""

    path: Path
    bands: tuple[int, ...]
    alpha: int = 0
    scale: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Project:
    """Files of a project by their final names; ``place`` is the GeoPackage, to which all paths are relative."""

    place: Path
    title: str
    classes: Path | None = None
    confidence: Path | None = None
    images: tuple[Image, ...] = ()

    def relative(self, path: Path) -> str:
        """As QGIS wants it: with ./ or ../ in front; on another drive of Windows absolute."""
        try:
            found = Path(os.path.relpath(path, self.place.parent)).as_posix()
        except ValueError:
            return path.as_posix()
        return found if found.startswith("../") else f"./{found}"

    @property
    def spoken(self) -> bool:
        """Whether XML can name the GeoPackage: one whose name holds control characters has no project."""
        return _is_plain(self.place)


@dataclass(frozen=True, slots=True)
class VectorEntry:
    """A layer of the GeoPackage: its name there and for people, geometry, styles (the default first), metadata."""

    layer: str
    title: str
    geometry: str
    styles: Sequence[Style]
    metadata: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """A layer of the project: its element among ``projectlayers``, its name, and whether it is drawn at first."""

    element: Element
    title: str
    shown: bool


def project_row(
    project: Project,
    layers: Sequence[VectorEntry],
    legend: Legend,
    crs: str | None,
    extent: Sequence[float | None],
    when: str,
) -> tuple[str, str, str]:
    """Name, metadata and content of the project in ``qgis_projects``. when: ISO 8601 in UTC."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        entry = zipfile.ZipInfo("project.qgs", _EPOCH)
        entry.compress_type = zipfile.ZIP_DEFLATED
        file.writestr(entry, _document(project, layers, legend, crs, extent))
    about = {"last_modified_time": when[:19], "last_modified_user": "", "software": "aerialseg"}
    return layers[0].layer, json.dumps(about), content.getvalue().hex()


def _document(
    project: Project,
    layers: Sequence[VectorEntry],
    legend: Legend,
    crs: str | None,
    extent: Sequence[float | None],
) -> str:
    groups = {
        "Land cover": [*_vectors(project, layers, crs), *_rasters(project, legend, crs)],
        "Orthophoto": list(_images(project, crs)),
    }
    root = Element("qgis", version=VERSION, projectname=project.title)
    SubElement(root, "title").text = project.title
    if crs is not None:
        SubElement(root, "projectCrs").append(reference_system(crs))
    tree = SubElement(root, "layer-tree-group")
    for name, entries in groups.items():
        _add_group(tree, name, entries)
    place = SubElement(root, "projectlayers")
    place.extend(entry.element for entries in groups.values() for entry in entries)
    properties = SubElement(root, "properties")
    SubElement(SubElement(properties, "Paths"), "Absolute", type="bool").text = "false"
    SubElement(SubElement(properties, "SpatialRefSys"), "ProjectionsEnabled", type="int").text = str(
        int(crs is not None)
    )
    _add_extent(root, crs, extent)
    indent(root)
    return DOCTYPE + tostring(root, encoding="unicode")


def _add_group(tree: Element, name: str, entries: Sequence[_Entry]) -> None:
    if not entries:
        return
    group = SubElement(tree, "layer-tree-group", name=name, checked="Qt::Checked", expanded="1")
    for entry in entries:
        values = {
            "id": entry.element.findtext("id", ""),
            "name": entry.title,
            "source": entry.element.findtext("datasource", ""),
            "providerKey": entry.element.findtext("provider", ""),
            "checked": "Qt::Checked" if entry.shown else "Qt::Unchecked",
            "expanded": str(int(entry.shown and name == "Land cover")),
        }
        SubElement(group, "layer-tree-layer", values)


def _add_extent(root: Element, crs: str | None, extent: Sequence[float | None]) -> None:
    sides = [repr(float(side)) for side in extent if side is not None]
    if len(sides) == 4:
        values = dict(zip(("xmin", "ymin", "xmax", "ymax"), sides, strict=True))
        view = SubElement(SubElement(root, "ProjectViewSettings"), "DefaultViewExtent", values)
        if crs is not None:
            view.append(reference_system(crs))


def _vectors(project: Project, layers: Iterable[VectorEntry], crs: str | None) -> Iterator[_Entry]:
    for number, one in enumerate(layers):
        source = f"{project.relative(project.place)}|layername={one.layer}"
        layer = _layer("vector", one.layer, one.title, source, "ogr", crs)
        layer.set("geometry", "Polygon")
        layer.set("wkbType", one.geometry)
        first, *others = one.styles
        manager = SubElement(layer, "map-layer-style-manager", current=first.name)
        SubElement(manager, "map-layer-style", name=first.name)
        for style in others:
            SubElement(manager, "map-layer-style", name=style.name).append(fromstring(style.qml))
        layer.extend(fromstring(first.qml))
        SubElement(layer, "resourceMetadata").extend(fromstring(one.metadata))
        yield _Entry(layer, one.title, number == 0)


def _rasters(project: Project, legend: Legend, crs: str | None) -> Iterator[_Entry]:
    for path, title, pipe in (
        (project.classes, "Classes of the pixels", _palette(legend)),
        (project.confidence, "Confidence of the pixels (%)", ramp_pipe()),
    ):
        if path is not None and _is_plain(path):
            yield _Entry(_raster(project, path, title, crs, pipe), title, False)


def _images(project: Project, crs: str | None) -> Iterator[_Entry]:
    for number, image in enumerate(project.images):
        if _is_plain(image.path):
            layer = _raster(project, image.path, image.path.name, crs, _colours(image), f"orthophoto_{number}")
            yield _Entry(layer, image.path.name, True)


def _raster(
    project: Project, path: Path, title: str, crs: str | None, pipe: Element, identity: str | None = None
) -> Element:
    layer = _layer("raster", identity or title.split()[0].lower(), title, project.relative(path), "gdal", crs)
    layer.append(pipe)
    return layer


def _layer(kind: str, identity: str, title: str, source: str, provider: str, crs: str | None) -> Element:
    layer = Element("maplayer", type=kind)
    texts = {"id": f"aerialseg_{identity}", "datasource": source, "layername": title, "provider": provider}
    for name, text in texts.items():
        SubElement(layer, name).text = text
    if crs is not None:
        SubElement(layer, "srs").append(reference_system(crs))
    return layer


def _renderer(kind: str, **values: str) -> tuple[Element, Element]:
    pipe = Element("pipe")
    return pipe, SubElement(pipe, "rasterrenderer", {"type": kind, "opacity": "1", "alphaBand": "-1", **values})


def _palette(legend: Legend) -> Element:
    pipe, renderer = _renderer("paletted", band="1")
    colours = SubElement(renderer, "colorPalette")
    for entry in legend:
        values = {"value": str(entry.id), "color": entry.hex, "alpha": "255", "label": entry.name}
        SubElement(colours, "paletteEntry", values)
    return pipe


def _colours(image: Image) -> Element:
    """The first three bands as red, green, blue (or one as grey), stretched as the model saw them and no other way."""
    names = ("red", "green", "blue") if len(image.bands) >= 3 else ("gray",)
    bands = {f"{name}Band": str(band) for name, band in zip(names, image.bands, strict=False)}
    kind = "multibandcolor" if len(names) == 3 else "singlebandgray"
    pipe, renderer = _renderer(kind, **bands, alphaBand=str(image.alpha or -1))
    for index, name in enumerate(names if image.scale else ()):
        at = 2 * index if len(image.scale or ()) > 2 else 0
        low, high = (image.scale or ())[at : at + 2]
        stretch = SubElement(renderer, "contrastEnhancement" if name == "gray" else f"{name}ContrastEnhancement")
        for tag, text in (("minValue", repr(low)), ("maxValue", repr(high)), ("algorithm", "StretchToMinimumMaximum")):
            SubElement(stretch, tag).text = text
    return pipe


def _is_plain(path: Path) -> bool:
    return printable(path) == str(path)
