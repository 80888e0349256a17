"""A model as one ONNX file, for programs that know nothing of aerialseg; first of all QGIS's plugin Deepness.

Normalisation, temperature and softmax are part of the graph: it takes bands scaled to 0..1 and gives probabilities.
Void classes have none. What is lost is the exact tile: whoever runs the file cuts its own tiles.

Deepness reads what it needs to know from the file's metadata, each value as JSON; it wants one square input of a fixed
size, and one output of the same size whose channels are the classes. (PUTvision/qgis-plugin-deepness, MIT or Apache:
docs/source/creators/creators_add_metadata_to_model.rst and creators_description_classes.rst for the keys;
src/deepness/processing/models/model_base.py, which reads "tile_size" where the documentation says "tiles_size", and
deepness_dockwidget.py, which refuses a size that is not a number.)
"""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aerialseg._version import __version__
from aerialseg.errors import ModelError, UsageError
from aerialseg.files import write_atomically
from aerialseg.model.card import APPROXIMATE_HALO, ModelCard
from aerialseg.model.fold import fold_for_inference
from aerialseg.model.groups import group_logits
from aerialseg.model.network import Network
from aerialseg.model.store import load_network

OPSET = 17
TILE_PX = 1024
"""Side of a tile, unless told: the larger, the less of it is edge."""
MOST_OVERLAP = 50
"""Per cent of a tile's side, beyond which most of the work would be done twice and more."""
INPUT, PROBABILITIES, LOGITS = "image", "probabilities", "logits"
_NEVER = -1e30


def export_onnx(
    model: str | Path | None, out: str | Path, *, tile: int | None = TILE_PX, output: str = PROBABILITIES
) -> Path:
    """The path of the ONNX file made of a model: float32 (batch, bands, h, w), 0 to 1, in; (batch, classes, h, w) out.

    tile: pixels along the sides of the one square that it takes, a multiple of the model's stride; None for any
    multiples of it, which Deepness cannot use. output: "probabilities" or, before temperature and softmax, "logits".
    Raises ModelError, UsageError, OutputError.
    """
    card, network = load_network(model)
    _check(card, tile)
    if output not in (PROBABILITIES, LOGITS):
        raise UsageError(f"output is {output!r}: wanted {PROBABILITIES!r} or {LOGITS!r}")
    graph = with_metadata(_graph(network, card, tile, output), metadata(card, tile or TILE_PX), card)
    with write_atomically(Path(out)) as part:
        part.write_bytes(graph)
    return Path(out)


def _check(card: ModelCard, tile: int | None) -> None:
    if tile is not None and (tile < card.stride or tile % card.stride):
        raise UsageError(f"a tile of {tile} px: wanted a multiple of {card.stride}, such as {TILE_PX}")
    if tile is None and card.architecture.self_attention:
        raise UsageError("a network with self-attention is exported for one tile size: give --tile PX")


class Answer(nn.Module):
    """The network between pixels and probabilities (or logits), as the pipeline has it on its device."""

    never: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, network: Network, card: ModelCard, output: str = PROBABILITIES) -> None:
        super().__init__()
        self.card = card
        self.network, self.temperature, self.softmax = (
            fold_for_inference(network),
            card.temperature,
            output == PROBABILITIES,
        )
        never = torch.zeros(1, len(card.legend), 1, 1)
        never[:, list(card.void)] = _NEVER
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (card.mean, card.std))
        for name, values in (("never", never), ("mean", mean), ("std", std)):
            self.register_buffer(name, values)

    def forward(self, image: Tensor) -> Tensor:
        logits = group_logits(self.network((image - self.mean) / self.std), self.card) + self.never
        return torch.softmax(logits / self.temperature, dim=1) if self.softmax else logits


def _graph(network: Network, card: ModelCard, tile: int | None, output: str) -> bytes:
    """By torch's exporter of traces: the newer one needs packages of its own and gives the same graph."""
    axes = {0: "batch"} | ({} if tile else {2: "height", 3: "width"})
    file: Any = io.BytesIO()  # which the exporter takes, whatever its signature says
    side = tile or 4 * card.stride
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of the exporter's age, and of the comparisons of shapes that it fixes
        torch.onnx.export(
            Answer(network, card, output).eval(),
            (torch.zeros(1, len(card.bands), side, side),),
            file,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[output],
            dynamic_axes={INPUT: axes, output: axes},
        )
    return bytes(file.getvalue())


def with_metadata(graph: bytes, values: dict[str, Any], card: ModelCard) -> bytes:
    """The graph with its metadata, each value as JSON, once it is known to be valid. Raises UsageError, ModelError."""
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise UsageError("ONNX needs the extra of that name: pip install 'aerialseg[onnx]'") from error
    model = onnx.load_from_string(graph)
    model.producer_name, model.producer_version = "aerialseg", __version__
    model.doc_string = " ".join([card.name, card.description, card.licence]).strip()
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in values.items()})
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"{card.name!r} would not be valid ONNX: {error}: a bug, please report it") from error
    return bytes(model.SerializeToString())


def metadata(card: ModelCard, tile: int) -> dict[str, Any]:
    """What the file tells of itself: Deepness's keys first, then the card's."""
    return {
        "model_type": "Segmentor",
        "class_names": {str(entry.id): entry.name for entry in card.legend},
        "resolution": round(card.gsd_m * 100, 6),
        "tile_size": tile,
        "tiles_size": tile,
        "tiles_overlap": overlap_percent(card, tile),
        "standardization_mean": [0.0] * len(card.bands),
        "standardization_std": [1.0] * len(card.bands),
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
        "bands": list(card.bands),
        "class_colors": {str(entry.id): entry.hex for entry in card.legend},
        "void": list(card.void),
        "temperature": card.temperature,
        "licence": card.licence,
        "lineage": list(card.lineage),
        "model_digest": card.digest,
    }


def overlap_percent(card: ModelCard, tile: int) -> int:
    """Of the tile's side: neighbours share twice the halo that does for an approximation, where there is room."""
    return min(MOST_OVERLAP, -(-100 * 2 * min(card.halo, APPROXIMATE_HALO) // tile))
