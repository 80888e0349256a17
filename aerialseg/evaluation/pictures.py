"""Frames to look at in a page: image, truth, prediction and mistakes as data URIs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aerialseg.datasets.images import read_image
from aerialseg.evaluation.results import Evaluation, FrameScore
from aerialseg.legend import NODATA, Legend

WRONG, UNKNOWN = (230, 40, 60), (128, 128, 128)
"""Colours of mistakes, and of pixels without truth, which are striped."""
STRIPE_PX = 5
QUALITY = 82


@dataclass(frozen=True, slots=True)
class Pictures:
    """Data URIs of one frame, all of one size."""

    image: str
    truth: str
    predicted: str
    mistakes: str


def draw_frame(frame: FrameScore, evaluation: Evaluation) -> Pictures:
    """The pictures of a frame, as small as its prediction was kept. Raises InputError where its files have gone."""
    shape = frame.predicted.shape
    whole = read_image(frame.image, bands=frame.bands)
    image = whole.resize((shape[1], shape[0]), Image.Resampling.LANCZOS).convert("RGB")
    return Pictures(
        image=_jpeg(image),
        truth=_png(frame.truth, evaluation.legend),
        predicted=_png(frame.predicted, evaluation.legend),
        mistakes=_jpeg(draw_mistakes(image, frame.truth, frame.predicted)),
    )


def draw_mistakes(image: Image.Image, truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> Image.Image:
    """The image, pale and grey, with WRONG where the classes differ and stripes of UNKNOWN where the truth is void."""
    grey = np.asarray(image.convert("L"), dtype=np.float32)
    out = np.repeat((150 + grey * 0.4)[..., None], 3, axis=2).astype(np.uint8)
    out[truth != predicted] = WRONG
    rows, cols = np.indices(truth.shape)
    out[truth == NODATA] = 235
    out[(truth == NODATA) & ((rows + cols) // STRIPE_PX % 2 == 0)] = UNKNOWN
    return Image.fromarray(out)


def paint(ids: NDArray[np.uint8], legend: Legend) -> Image.Image:
    """Class ids in their colours."""
    palette = np.full((256, 3), UNKNOWN, dtype=np.uint8)
    for entry in legend:
        palette[entry.id] = entry.color
    picture = Image.fromarray(ids)
    picture.putpalette(palette.tobytes())
    return picture


def _png(ids: NDArray[np.uint8], legend: Legend) -> str:
    return _uri(paint(ids, legend), "PNG", optimize=True)


def _jpeg(picture: Image.Image) -> str:
    return _uri(picture, "JPEG", quality=QUALITY, optimize=True)


def _uri(picture: Image.Image, form: str, **options: object) -> str:
    file = io.BytesIO()
    picture.save(file, format=form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
