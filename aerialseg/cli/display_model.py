"""What models look like to people: a table of them, and a card that can be read. All of it on stderr."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerialseg.cli.display import console_for_people
from aerialseg.model.card import ModelCard
from aerialseg.model.catalogue import Offer
from aerialseg.model.folders import WEIGHTS
from aerialseg.model.listing import SHOWN, ModelEntry, score_sets, scores_of
from aerialseg.progress import spoken_bytes
from aerialseg.raster.working_grid import spoken_gsd

if TYPE_CHECKING:
    from rich.table import Table

LICENCE_CHARACTERS = 32
SETS = {"held_out": "test set"}


def show_models(models: Iterable[ModelEntry]) -> None:
    """One line a model: what to call it, for which imagery, how good, under which terms."""
    table = _table("model", "pixel", "classes", "mean IoU", "tiles", "licence", right=("pixel", "classes", "mean IoU"))
    broken = []
    for model in models:
        if model.card is None:
            broken.append(f"{model.ref}: cannot be used: {model.problem}")
            continue
        card, scores = model.card, scores_of(model.card)
        iou = f"{scores['mean_iou']:.3f}" if "mean_iou" in scores else "not scored"
        licence = _shortened(card.licence or "not stated", LICENCE_CHARACTERS)
        cells = (model.ref, spoken_gsd(card.gsd_m), str(len(card.legend) - len(card.void)), iou, card.tiling, licence)
        table.add_row(*(_plain(cell) for cell in cells))
    with console_for_people() as console:
        console.print(table)
        for line in broken:
            console.print(line, markup=False, soft_wrap=True)


def show_offers(offers: Mapping[str, Offer]) -> None:
    """One line a model that can be had."""
    if not offers:
        return
    table = _table("catalogue", "pixel", "classes", "download", "licence", right=("pixel", "classes", "download"))
    for name, offer in offers.items():
        licence = _shortened(offer.licence, LICENCE_CHARACTERS)
        classes = str(len(offer.classes) - len(offer.void))
        table.add_row(name, spoken_gsd(offer.gsd_m), classes, spoken_bytes(offer.size), _plain(licence))
    with console_for_people() as console:
        console.print(table)
        console.print("To install one of these: aerialseg model add NAME", markup=False)


def show_card(card: ModelCard, folder: Path) -> None:
    """A card in words: what the model is for, what it looks at, how good it is, where it comes from."""
    from rich.table import Table

    with console_for_people() as console:
        console.print(card.name, style="bold", markup=False)
        if card.description:
            console.print(card.description, markup=False)
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="dim", no_wrap=True)
        facts.add_column()
        for title, text in _facts(card, folder):
            facts.add_row(title, _plain(text))
        console.print()
        console.print(facts)
        console.print(_classes(card, colored=bool(console.color_system)))


def _facts(card: ModelCard, folder: Path) -> Iterator[tuple[str, str]]:
    architecture = card.architecture
    stored = f"scaled from {', '.join(f'{value:g}' for value in card.scale)}" if card.scale else "8 bit"
    yield "imagery", f"{', '.join(card.bands)}, {stored}, {spoken_gsd(card.gsd_m)} per pixel"
    yield "network", f"{architecture.decoder} over {architecture.encoder}{_decoder(card)}"
    yield "tiles", f"exact, halo {card.halo} px, lattice {card.stride} px" if card.exact else card.tiling
    for name, values in score_sets(card).items():
        shown = [f"{text} {values[key]:.3f}" for key, text in SHOWN.items() if isinstance(values.get(key), float)]
        remark = [str(values["remark"])] if values.get("remark") else []
        yield SETS.get(name, name.replace("_", " ")), "; ".join([", ".join(shown), *remark])
    yield "confidence", _confidence(card)
    yield "int8", _int8(card)
    yield "made", f"{card.created or 'not stated'}, aerialseg {card.code_version or 'not stated'}"
    for number, line in enumerate(card.lineage):
        yield "" if number else "lineage", line
    yield "licence", card.licence or "not stated"
    weights = folder / WEIGHTS
    size = spoken_bytes(weights.stat().st_size) if weights.is_file() else "missing"
    yield "weights", f"{size}, SHA-256 {card.weights_sha256[:16]}..."
    yield "folder", str(folder)


def _decoder(card: ModelCard) -> str:
    architecture = card.architecture
    parts = ["blur"] * architecture.blur + ["self-attention"] * architecture.self_attention
    parts += [f"{architecture.norm} norm"] * (architecture.norm != "none")
    return f" with {', '.join(parts)}" if parts else ""


def _confidence(card: ModelCard) -> str:
    found = card.scores.get("calibration", {})
    if not found:
        return "not calibrated" if card.temperature == 1.0 else f"temperature {card.temperature:g}"
    before, after = found.get("ece_before", 0.0), found.get("ece_after_cross_fitted", 0.0)
    frames = f"on {found.get('frames', '?')} test frames"
    if card.temperature == 1.0:
        return f"calibration error {before:.1%} {frames}; no temperature reduces it"
    return f"calibration error {after:.1%} {frames} with temperature {card.temperature:g}, {before:.1%} without"


def _int8(card: ModelCard) -> str:
    scores = card.quantization.get("mean_iou", {})
    if not card.ranges:
        return "not prepared (aerialseg quantize)"
    return f"mean IoU {scores['int8']:.3f} instead of {scores['fp32']:.3f}" if len(scores) == 2 else "prepared"


def _classes(card: ModelCard, *, colored: bool) -> Table:
    """The legend, with the IoU of each class where the card has it."""
    sets = [values["per_class"] for values in score_sets(card).values() if "per_class" in values]
    per_class: Mapping[str, Any] = sets[0] if sets else {}
    table = _table("id", "class", "colour", "IoU", "", right=("id", "IoU"))
    for entry in card.legend:
        swatch = f"[{entry.hex}]■[/] " if colored else ""
        iou = per_class.get(entry.name, {}).get("iou")
        shown = f"{iou:.3f}" if isinstance(iou, float) else ""
        note = "never predicted" if entry.id in card.void else f"on maps: {entry.title}" * bool(entry.title)
        table.add_row(str(entry.id), swatch + _plain(entry.name), entry.hex, shown, note)
    return table


def _shortened(text: str, most: int) -> str:
    """The first sentence or clause, or so many characters of it."""
    first = text.split("; ")[0].split(". ")[0].split(", ")[0]
    return first if len(first) <= most else first[: most - 1].rstrip() + "…"


def _table(*titles: str, right: tuple[str, ...]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for title in titles:
        table.add_column(title, justify="right" if title in right else "left", overflow="fold")
    return table


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
