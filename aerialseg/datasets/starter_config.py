"""The training configuration that a new data set comes with: something that works, to be changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from aerialseg.model.card import Architecture
from aerialseg.model.store import load_card
from aerialseg.raster.bands import RGB

if TYPE_CHECKING:
    from aerialseg.datasets.chipset import ChipSet

LOOKS = 2000
"""About as many chips are looked at by the coarse layers, however few there are: few are looked at more often."""
EPOCHS = (6, 40)
WHOLE = 6
"""Epochs of the coarse layers for each one of the whole network, which takes four to five times as long."""
BATCH = 8
CROP_PX = 256

_TEMPLATE = """\
# What aerialseg learns from the chips in this folder. A start that works: change what you know better.
#   aerialseg train {folder}/train.toml --data {folder} --out MODEL_DIR
# docs/own-imagery.md goes through it.
name = {name}
description = {description}
licence = ""                        # what others may do with the weights: yours to say
seed = {seed}
precision = "auto"
balance = 0.3                       # rare classes weigh more, mildly

[data]
images = "images"
masks = "masks"                     # class ids of legend.csv, 255 where nothing is known
legend = "legend.csv"
split = "split.csv"                 # whole blocks of ground are held out
void = {void}
size = {size}                   # rows and columns of a chip
gsd_m = {gsd_m}
watch = 20
{bands}
[encoder]
arch = "{arch}"
{start}
[decoder]
{decoder}

[augment]
zoom = [0.8, 1.5]
turn = true
lighting = 0.3
{steps}"""

_STEP = """
[[steps]]
size = {size}
crop = {crop}
epochs = {epochs}
batch = {batch}
lr = {lr}
{more}"""

_START = """\
start = "model"                     # from the embedded model, whose licence then holds for yours as well; or "scratch",
                                    # which needs far more labels; or "pretrained", "deepen": --encoder-weights FILE
"""


def starter_config(chips: ChipSet) -> str:
    """The text of a training configuration (TOML) for these chips."""
    count = chips.count(held_out=False)
    epochs = min(max(round(LOOKS / count), EPOCHS[0]), EPOCHS[1])
    crop, batch = [min(side, CROP_PX) for side in chips.size], min(BATCH, count)
    steps = [
        _STEP.format(size=list(chips.size), crop=crop, epochs=number, batch=batch, lr=lr, more=more)
        for number, lr, more in (
            (epochs, "7e-4", "stride = 8                          # without the finest layers: a fifth of the time\n"),
            (max(1, epochs // WHOLE), "8e-5", "keep_norms = true\n"),
        )
    ]
    start = load_card(None).architecture
    names = ", ".join(sorted({Path(view.path).name for view in chips.views}))
    return _TEMPLATE.format(
        folder=chips.folder.name,
        name=_toml(chips.folder.name),
        description=_toml(f"Land cover learned from {count} chips of {names}: {', '.join(chips.labelled)}."),
        seed=chips.recipe.seed,
        size=list(chips.size),
        void=[entry.id for entry in chips.legend if entry.name not in chips.labelled],
        gsd_m=f"{chips.gsd_m:.6g}",
        arch=start.encoder,
        decoder=f'norm = "{start.norm}"' if start.decoder == Architecture().decoder else f'kind = "{start.decoder}"',
        start=_START,
        steps="".join(steps),
        bands=_bands(chips),
    )


def _bands(chips: ChipSet) -> str:
    """The keys that say what the images' bands are, where they are not red, green and blue of 8 bit."""
    names, scale = chips.recipe.bands, chips.views[0].pieces[0].scale
    lines = [] if names == RGB else [f"bands = {json.dumps(names)}"]
    lines += [] if scale is None else [f"scale = {json.dumps(scale)}   # source values that became 0 and 255"]
    return "".join(f"{line}\n" for line in lines)


def _toml(text: str) -> str:
    return json.dumps("".join(char if char.isprintable() else " " for char in text), ensure_ascii=False)
