"""The seam certificate: what tiles of all kinds change against the whole image, for a model, measured.

One raster (the drawn demo scene unless told) that is larger than twice the network's reach goes through the network at
once; then again in tiles, exact ones and such as are in use elsewhere, and the labels are compared pixel by pixel.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aerialseg._version import __version__
from aerialseg.errors import InputError, ModelError, UsageError
from aerialseg.progress import Progress, Silent
from aerialseg.raster.grid import Box

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aerialseg.model.card import ModelCard
    from aerialseg.model.network import Network
    from aerialseg.seams.tilings import Difference, Whole

    Pixels = tuple[NDArray[np.uint8], NDArray[np.bool_]]

HALOS = (0, 32, 64, 128, 256, 384, 512)
OFFSETS = (1, 16)
CORE_PX = 512
USUAL_PX, USUAL_OVERLAP_PX = 512, 64
EQUAL = 1e-4
"""Scores (logits) that differ by less than this, in float32, are the same."""


@dataclass(frozen=True, slots=True)
class TilingResult:
    """One way to tile. work: operations per pixel against the whole image at once, for a tile with neighbours.

    changed: share of the valid pixels whose label is not the whole image's; clear_changed: of those without a tie.
    largest: the largest difference of a score.
    """

    way: str
    changed: float
    clear_changed: float
    largest: float
    pixels: int
    halo_px: int | None = None
    offset_px: int = 0
    work: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """What was measured; ``pixels`` (3, h, w) and labels (h, w) of the whole image, of exact and of usual tiles are
    there to be looked at."""

    model: str
    model_digest: str
    image: str
    size: tuple[int, int]
    device: str
    halo_px: int
    inexact: tuple[str, ...]
    lines: tuple[TilingResult, ...]
    ties: float
    seconds: float
    pixels: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    labels: dict[str, NDArray[np.uint8]]
    card: ModelCard

    @property
    def exact(self) -> bool:
        """Whether exact tiles gave the labels of the whole image wherever there is no tie, and its scores."""
        lines = [line for line in self.lines if line.way == "exact"]
        return bool(lines) and all(line.clear_changed == 0 and line.largest < EQUAL for line in lines)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: everything but the pictures."""
        names = ("model", "model_digest", "image", "device", "halo_px", "exact", "ties", "seconds")
        return {
            **{name: getattr(self, name) for name in names},
            "size": list(self.size),
            "inexact": list(self.inexact),
            "core_px": CORE_PX,
            "lines": [asdict(line) for line in self.lines],
            "software": f"aerialseg {__version__}",
            "machine": platform.machine(),
        }

    def text(self) -> str:
        """The certificate as a table for people."""
        height, width = self.size
        head = [
            f"Seam certificate of {self.model}, {self.image}, {width} x {height} px, {self.device}, fp32",
            f"against the whole image at once; tiles of {CORE_PX} px; ties (best two closer than {EQUAL:g}): "
            f"{self.ties:.4%} of pixels",
            "",
            f"{'tiles':<44}{'labels changed':>16}{'without ties':>15}{'max |logit diff|':>18}{'work':>7}",
        ]
        rows = [
            f"{line.way:<44}{_share(line.changed):>16}{_share(line.clear_changed):>15}{line.largest:>18.2g}"
            f"{'' if line.work is None else f'{line.work:.2f}':>7}"
            for line in self.lines
        ]
        return "\n".join([*head, *rows, "", self.verdict])

    @property
    def verdict(self) -> str:
        if self.inexact:
            return f"This model cannot be exact: its layer {self.inexact[0]} depends on the whole image at once."
        if self.exact:
            return f"Exact: with its halo of {self.halo_px} px no label changes but at ties."
        return "NOT exact: exact tiles should have given the labels of the whole image. Please report this."


def certify(
    model: str | Path | None = None,
    raster: str | Path | None = None,
    *,
    size: tuple[int, int] | None = None,
    device: str = "auto",
    alpha: Literal["auto", "none"] = "auto",
    allow_remote: bool = False,
    progress: Progress | None = None,
) -> Certificate:
    """The certificate of a model on the middle of a raster, or on the demo scene.

    size: (rows, columns) to look at, by default a little more than twice the reach of the network, so that no border
    reaches the middle; all of it goes through the network at once, in about 2 GB of memory a megapixel. Raises
    InputError, ModelError, ResourceError, UsageError.
    """
    from aerialseg.model.device import check_device
    from aerialseg.model.store import load_network
    from aerialseg.seams.tilings import Whole

    progress, started, place = progress or Silent(), time.perf_counter(), check_device(device)
    card, network = load_network(model)
    digest = card.digest
    if not network.inexact:  # whatever its card makes of that
        card = replace(card, halo=network.reach.halo, exact=True)
    size = size or (2 * card.halo + 284, 2 * card.halo + 534)
    name, (pixels, valid) = _drawn(card, size) if raster is None else _middle(raster, card, size, allow_remote, alpha)
    if not valid.any():
        raise InputError(f"{name} has no valid pixel in its middle: give another raster, or a larger --size")
    if min(valid.shape) <= 2 * card.halo:
        progress.note(
            f"warning: {valid.shape[1]} x {valid.shape[0]} px is less than twice the reach of {card.halo} px: "
            "borders reach everywhere, and seams look smaller than they are"
        )
    area = valid.size
    progress.stage("whole image at once", area)
    whole = Whole(network, card, pixels, valid, place)
    progress.advance(area)
    labels = {"whole": whole.labels}
    lines = list(_measure(whole, network, card, labels, progress))
    return Certificate(
        model=card.name,
        model_digest=digest,
        image=name,
        size=(valid.shape[0], valid.shape[1]),
        device=str(place),
        halo_px=card.halo,
        inexact=network.inexact,
        lines=tuple(lines),
        ties=1 - float(whole.clear[valid].mean()),
        seconds=time.perf_counter() - started,
        pixels=pixels,
        valid=valid,
        labels=labels,
        card=card,
    )


def _measure(
    whole: Whole, network: Network, card: ModelCard, labels: dict[str, NDArray[np.uint8]], progress: Progress
) -> Iterator[TilingResult]:
    """One line a way to tile; the labels of two of them are kept in ``labels``."""
    import torch

    from aerialseg.model.networks import build_for
    from aerialseg.seams.operations import work_per_pixel

    area = whole.raster.area
    with torch.device("meta"):
        shape = build_for(card)

    def work(halo: int) -> float | None:
        return None if network.inexact else work_per_pixel(shape, CORE_PX, halo)

    for halo in HALOS:
        found = _compare(whole, whole.tiles(CORE_PX, halo), progress, f"halo {halo} px")[0]
        yield _line(f"approximate, halo {halo} px", found, halo_px=halo, work=work(halo))
    usual = f"halo {USUAL_OVERLAP_PX // 2} px, last tile pulled back"
    found, labels["usual"] = _compare(whole, whole.usual_tiles(USUAL_PX, USUAL_OVERLAP_PX), progress, usual)
    twice = (USUAL_PX / (USUAL_PX - USUAL_OVERLAP_PX)) ** 2
    yield _line(f"usual {USUAL_PX} px tiles, overlap {USUAL_OVERLAP_PX}, pulled back", found, work=twice)
    if network.inexact:
        return
    for offset in OFFSETS:
        progress.stage(f"origin + {offset} px", area)
        moved = whole.moved(offset)
        progress.advance(area)
        if moved is not None:
            yield _line(f"halo {card.halo} px, origin off by {offset} px", moved, halo_px=card.halo, offset_px=offset)
    found, labels["exact"] = _compare(whole, whole.tiles(CORE_PX, card.halo), progress, "exact")
    yield _line("exact", found, halo_px=card.halo, work=work(card.halo))


def _compare(
    whole: Whole, tiles: Iterator[tuple[Box, Any]], progress: Progress, name: str
) -> tuple[Difference, NDArray[np.uint8]]:
    """(difference over all tiles, their labels)"""
    from aerialseg.seams.tilings import Difference

    progress.stage(name, whole.raster.area)
    total, labels = Difference(), whole.labels.copy()
    for core, logits in tiles:
        total += whole.difference(core, logits)
        labels[core.slices] = whole.label(logits)
        progress.advance(core.area)
    return total, labels


def _line(way: str, found: Difference, **more: Any) -> TilingResult:
    pixels = max(1, found.pixels)
    return TilingResult(way, found.changed / pixels, found.clear_changed / pixels, found.largest, found.pixels, **more)


def _share(value: float) -> str:
    return f"{value:.4%}" if value else "none"


def _drawn(card: ModelCard, size: tuple[int, int]) -> tuple[str, Pixels]:
    """The demo scene; what its classes are called does not matter here."""
    from aerialseg.datasets.demo import CLASSES, draw_scene

    if len(card.bands) != 3:
        raise UsageError(f"{card.name} wants the bands {', '.join(card.bands)}: give a RASTER that has them")
    scene = draw_scene(size[1], size[0], {name: number for number, name in enumerate(CLASSES)})
    return "the drawn demo scene", (scene.pixels, scene.valid)


def _middle(
    raster: str | Path, card: ModelCard, size: tuple[int, int], allow_remote: bool, alpha: Literal["auto", "none"]
) -> tuple[str, Pixels]:
    """The middle of a raster, read at the model's ground sampling distance."""
    from aerialseg.raster.describe import describe
    from aerialseg.raster.source import Source
    from aerialseg.raster.view import make_view

    info = describe(raster, allow_remote=allow_remote)
    view = make_view(info, model_gsd_m=card.gsd_m, wanted=card.bands, alpha=alpha)
    height, width = (min(wanted, there) for wanted, there in zip(size, view.shape, strict=True))
    top, left = (view.shape[0] - height) // 2, (view.shape[1] - width) // 2
    with Source(view, allow_remote=allow_remote) as source:
        return f"the middle of {Path(raster).name}", source.read(Box(top, left, top + height, left + width))


def check_verdict(certificate: Certificate) -> None:
    """Raise ModelError for a model that is meant to be exact and was found not to be."""
    if not certificate.inexact and not certificate.exact:
        raise ModelError(
            f"{certificate.model}: exact tiles did not give the labels of the whole image (see "
            "above): use --tiling approximate, and report a bug"
        )
