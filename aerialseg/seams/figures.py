"""CertificateFiles of a seam certificate, each an SVG that needs nothing else."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aerialseg.evaluation.charts import LineSeries, lines, standalone, templates
from aerialseg.legend import NODATA, LandClass, Legend
from aerialseg.raster.image import class_png, jpeg

if TYPE_CHECKING:
    from aerialseg.seams.certificate import Certificate

ZOOM_PX = (240, 320)
"""Rows and columns of the closer look."""
SHOWN_CLASSES = 12
_DIFFERENT = Legend((LandClass(0, "different", (225, 20, 20)),))


def draw_certificate(certificate: Certificate) -> str:
    """A chart as SVG: share of labels that change against the halo, on a logarithmic scale, and the other ways."""
    least = 30 / max(line.pixels for line in certificate.lines)
    by_halo = [line for line in certificate.lines if line.way.startswith("approximate")]
    shares = [max(100 * line.clear_changed, least) for line in by_halo]
    series = [LineSeries("aligned tiles of 512 px, by halo", [line.halo_px or 0 for line in by_halo], shares)]
    for line in certificate.lines:
        if line not in by_halo:
            name = line.way if line.clear_changed else f"{line.way}: none"
            halo = 32 if line.halo_px is None else line.halo_px
            series.append(LineSeries(name, [halo], [max(100 * line.clear_changed, least)]))
    where = f"halo around the tile, pixels ({certificate.model} on {certificate.image})"
    return standalone(lines(series, where, "% of labels that change (lowest: none)", log_y=True, size=(420, 800)))


def draw_seams(certificate: Certificate) -> str:
    """An SVG: labels of usual tiles beside exact ones, and where they differ, whole and from close by."""
    usual, whole = certificate.labels["usual"], certificate.labels["whole"]
    ours, legend = certificate.labels.get("exact", whole), certificate.card.legend
    different = (usual != whole) & certificate.valid
    ids, counts = np.unique(whole, return_counts=True)
    picture: str = (
        templates("aerialseg.seams")
        .get_template("seams.svg.j2")
        .render(
            size=whole.shape,
            exact=_png(ours, certificate.valid, legend),
            usual=_png(usual, certificate.valid & (usual != ours), legend),
            ground=_uri(jpeg(certificate.pixels[:3]), "jpeg"),
            different=_png(np.zeros_like(whole), different, _DIFFERENT),
            titles=(
                ("usual", "usual tiles: 512 px, 64 overlap, last ones pulled back"),
                ("exact", "exact tiles" if "exact" in certificate.labels else "the whole image at once"),
                ("different", f"different labels: {different.sum() / certificate.valid.sum():.2%}"),
            ),
            rows=_seams(whole.shape[0]),
            columns=_seams(whole.shape[1]),
            corner=_busiest(different),
            zoom=ZOOM_PX,
            classes=[legend[int(ids[place])] for place in np.argsort(-counts)[:SHOWN_CLASSES]],
        )
    )
    return picture


def _png(labels: NDArray[np.uint8], shown: NDArray[np.bool_], legend: Legend) -> str:
    return _uri(class_png(np.where(shown, labels, np.uint8(NODATA)), legend), "png")


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _seams(length: int) -> list[int]:
    from aerialseg.seams.certificate import USUAL_OVERLAP_PX, USUAL_PX
    from aerialseg.seams.tilings import tile_cuts

    return [first for first, _, _ in tile_cuts(length, USUAL_PX, USUAL_OVERLAP_PX) if first]


def _busiest(different: NDArray[np.bool_]) -> tuple[int, int]:
    """Upper left corner of the part with the most different pixels, of those with a seam through their middle half."""
    rows, cols = ZOOM_PX
    down, across = _seams(different.shape[1]), _seams(different.shape[0])
    corners = [
        (top, left)
        for top in range(0, max(1, different.shape[0] - rows), 20)
        for left in range(0, max(1, different.shape[1] - cols), 20)
        if any(cols // 4 < seam - left < cols * 3 // 4 for seam in down)
        or any(rows // 4 < seam - top < rows * 3 // 4 for seam in across)
    ]
    return max(corners or [(0, 0)], key=lambda at: int(different[at[0] : at[0] + rows, at[1] : at[1] + cols].sum()))
