"""Pictures of a seam certificate. Needs matplotlib, which is an extra: aerialseg[plot]."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.errors import OutputError, UsageError

if TYPE_CHECKING:
    from aerialseg.model.card import ModelCard
    from aerialseg.seams.certificate import Certificate

ZOOM_PX = (240, 320)
"""Rows and columns of the closer look."""


def check_matplotlib() -> None:
    """Raise UsageError where no picture can be drawn: asked before the work that it would show."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError("pictures need matplotlib: pip install 'aerialseg[plot]', or leave them out") from error


def draw_certificate(certificate: Certificate, path: str | Path) -> Path:
    """A PNG at ``path``: share of labels that change against the halo, on a logarithmic scale, and the other ways."""
    figure, axis = _figure(9.0, 4.6)
    least = 0.3 / max(line.pixels for line in certificate.lines)
    lines = [line for line in certificate.lines if line.way.startswith("approximate")]
    axis.plot(
        [line.halo_px for line in lines],
        [max(line.clear_changed, least) for line in lines],
        *("o-",),
        color="#b5402f",
        label="aligned tiles of 512 px, by halo",
    )
    others = [line for line in certificate.lines if line not in lines]
    for line, color in zip(others, ("#7a5195", "#ef8a17", "#c9a227", "#2a7f62"), strict=False):
        shown = line.way if line.clear_changed else f"{line.way}: none"
        halo = 32 if line.halo_px is None else line.halo_px
        axis.plot([halo], [max(line.clear_changed, least)], "D", color=color, markersize=9, label=shown)
    axis.set_yscale("log")
    axis.set_xlabel("halo around the tile, pixels")
    axis.set_ylabel("labels that are not the whole image's")
    axis.axhline(least, color="#999999", linewidth=0.8, linestyle=":")
    axis.text(2, least * 1.2, "none", color="#777777", fontsize=9)
    axis.set_title(f"{certificate.model} on {certificate.image}", fontsize=11)
    axis.legend(frameon=False, fontsize=9, loc="upper right", bbox_to_anchor=(0.92, 0.97))  # left of the marks
    axis.spines[["top", "right"]].set_visible(False)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value * 100:g} %" if value > least else "")
    return _save(figure, path)


def draw_seams(certificate: Certificate, path: str | Path) -> Path:
    """A PNG at ``path``: labels of usual tiles beside exact ones, and where they differ, whole and from close by."""
    usual, whole = certificate.labels["usual"], certificate.labels["whole"]
    ours = certificate.labels.get("exact", whole)
    different = (usual != whole) & certificate.valid
    height, width = whole.shape
    figure, axes = _figure(15.0, 4.9 * height / width + 4.9 * ZOOM_PX[0] / ZOOM_PX[1] + 1.1, rows=2, columns=3)
    zoom = _busiest(different)
    panels = [
        (_colored(usual, certificate), "usual tiles: 512 px, 64 overlap, last ones pulled back"),
        (_colored(ours, certificate), "exact tiles" if "exact" in certificate.labels else "the whole image at once"),
        (_highlighted(different, certificate), f"different labels: {different.sum() / certificate.valid.sum():.2%}"),
    ]
    for number, (image, title) in enumerate(panels):
        seams = number != 1
        _panel(axes[0][number], image, title, certificate.size if seams else None)
        axes[0][number].add_patch(_frame(zoom))
        _panel(axes[1][number], image, "", certificate.size if seams else None)
        axes[1][number].set(xlim=(zoom[1], zoom[1] + ZOOM_PX[1]), ylim=(zoom[0] + ZOOM_PX[0], zoom[0]))
    _legend(figure, certificate.card, whole)
    return _save(figure, path)


def _figure(width: float, height: float, **grid: int) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(grid.get("rows", 1), grid.get("columns", 1))


def _save(figure: Any, path: str | Path) -> Path:
    try:
        figure.savefig(path, dpi=90, format="png")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    return Path(path)


def _panel(axis: Any, image: NDArray[np.uint8], title: str, size: tuple[int, int] | None) -> None:
    """One picture, with the seams of usual tiles drawn over it where a size is given."""
    axis.imshow(image, interpolation="nearest")
    axis.set_title(title, fontsize=11)
    axis.set_axis_off()
    for row in _seams(size[0]) if size else ():
        axis.axhline(row, color="black", linewidth=0.7, linestyle=(0, (4, 3)))
    for column in _seams(size[1]) if size else ():
        axis.axvline(column, color="black", linewidth=0.7, linestyle=(0, (4, 3)))


def _seams(length: int) -> list[int]:
    from aerialseg.seams.certificate import USUAL_OVERLAP_PX, USUAL_PX
    from aerialseg.seams.tilings import cuts

    return [first for first, _, _ in cuts(length, USUAL_PX, USUAL_OVERLAP_PX) if first]


def _colored(labels: NDArray[np.uint8], certificate: Certificate) -> NDArray[np.uint8]:
    colors = np.array([entry.color for entry in certificate.card.legend], np.uint8)
    image: NDArray[np.uint8] = np.where(certificate.valid[..., None], colors[labels], 255).astype(np.uint8)
    return image


def _highlighted(different: NDArray[np.bool_], certificate: Certificate) -> NDArray[np.uint8]:
    """The ground faded, with the different pixels in red."""
    faded = 255 - (255 - np.moveaxis(certificate.pixels[:3], 0, -1).astype(int)) // 2
    image: NDArray[np.uint8] = np.where(different[..., None], (225, 20, 20), faded).astype(np.uint8)
    return image


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


def _frame(zoom: tuple[int, int]) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((zoom[1], zoom[0]), ZOOM_PX[1], ZOOM_PX[0], fill=False, edgecolor="black", linewidth=1.5)


def _legend(figure: Any, card: ModelCard, labels: NDArray[np.uint8]) -> None:
    from matplotlib.patches import Patch

    ids, counts = np.unique(labels, return_counts=True)
    common = [int(ids[place]) for place in np.argsort(-counts)[:12]]
    handles = [Patch(color=card.legend[number].hex, label=card.legend[number].name) for number in common]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
