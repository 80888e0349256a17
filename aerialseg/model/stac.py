"""A model as a STAC Item with the Machine Learning Model extension, so that catalogues can tell what it is for.

(stac-extensions/mlm, v1.4.0: README.md for the fields, best-practices.md for geometry and time. A model of land cover
as such belongs to no place: its geometry is the world, its time from now on.)
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aerialseg._version import __version__
from aerialseg.errors import OutputError, UsageError
from aerialseg.files import write_atomically
from aerialseg.model.card import ModelCard
from aerialseg.model.folders import CARD, WEIGHTS, model_dir
from aerialseg.model.store import load_whole_card, verify
from aerialseg.raster.describe import source_date

STAC = "1.1.0"
MLM = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
CLASSIFICATION = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"
FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
TASK = "semantic-segmentation"
WORLD = [-180.0, -90.0, 180.0, 90.0]
_SHA256 = "1220"
"""How a multihash of SHA-256 begins: what it is, and that it has 32 bytes."""


def export_stac(model: str | Path | None, out: str | Path, *, onnx: str | Path | None = None) -> Path:
    """The path of the STAC Item (JSON) written of a model; its assets are named relative to it.

    onnx: a file made of the same model, to be named as an asset too. Validated against the core of STAC before it gets
    its name. Raises ModelError, UsageError, OutputError.
    """
    folder, out = model_dir(model).resolve(), Path(os.path.abspath(out))
    card = load_whole_card(folder)
    verify(folder, card)
    item = make_item(card, folder, out.parent, onnx=None if onnx is None else Path(onnx).resolve())
    validate(item)
    with write_atomically(out) as part:
        part.write_text(json.dumps(item, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return out


def validate(item: dict[str, Any]) -> None:
    """Raise OutputError where the item is not valid by the core schemas of STAC, which come with pystac."""
    try:
        from pystac.errors import STACValidationError
        from pystac.validation import validate_dict
    except ModuleNotFoundError as error:
        raise UsageError("STAC needs the extra of that name: pip install 'aerialseg[stac]'") from error
    try:
        validate_dict(item, extensions=[])
    except STACValidationError as error:
        raise OutputError(f"{item['id']} would not be valid STAC: {error}: a bug, please report it") from error


def make_item(card: ModelCard, folder: Path, home: Path, *, onnx: Path | None = None) -> dict[str, Any]:
    """The item of a model that lies in ``folder``, for a file in the folder ``home``."""
    west, south, east, north = WORLD
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": STAC,
        "stac_extensions": [MLM, CLASSIFICATION, FILE],
        "id": f"{slug(card.name)}-{card.weights_sha256[:12]}",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": WORLD,
        "properties": _properties(card, folder),
        "links": [],
        "assets": _assets(card, folder, home, onnx),
    }


def slug(name: str) -> str:
    """The name as the extension wants it: letters, digits, ``_.-``, a letter first, at least three."""
    plain = re.sub(r"[^a-zA-Z0-9_.-]+", "-", name).strip("-_.")
    return plain if re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.-]+[a-zA-Z0-9]", plain) else f"model-{plain or 'unnamed'}"


def _properties(card: ModelCard, folder: Path) -> dict[str, Any]:
    start = created(card, folder)
    return {
        "datetime": None,
        "start_datetime": start,
        "end_datetime": "9999-12-31T23:59:59Z",
        "created": start,
        "title": card.name,
        "description": card.description or f"Land cover in {len(card.legend)} classes.",
        "license": "other",
        "gsd": card.gsd_m,
        "mlm:name": slug(card.name),
        "mlm:architecture": "U-Net",
        "mlm:tasks": [TASK],
        "mlm:framework": "PyTorch",
        "mlm:pretrained": True,
        "mlm:pretrained_source": "; ".join(card.lineage) or "not stated",
        "mlm:accelerator": None,
        "mlm:batch_size_suggestion": 1,
        "mlm:input": [_input(card)],
        "mlm:output": [_output(card)],
        "mlm:hyperparameters": _hyperparameters(card),
        "aerialseg:version": card.code_version or __version__,
        "aerialseg:licence": card.licence,
        "aerialseg:scores": {name: values for name, values in card.scores.items() if name != "calibration"},
    }


def created(card: ModelCard, folder: Path) -> str:
    """When the model was made, as STAC writes times: as the card says, else when the card was written."""
    try:
        moment = datetime.fromisoformat(card.created)
    except ValueError:
        moment = source_date(folder / CARD)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _input(card: ModelCard) -> dict[str, Any]:
    """uint8 imagery at the model's ground sampling distance; mean and deviation are in its values, 0 to 255."""
    return {
        "name": "imagery",
        "bands": list(card.bands),
        "input": {
            "shape": [-1, len(card.bands), -1, -1],
            "dim_order": ["batch", "channel", "height", "width"],
            "data_type": "float32",
        },
        "description": f"8-bit imagery at {card.gsd_m:g} m a pixel, sides a multiple of {card.stride} px",
        "value_scaling": [
            {"type": "z-score", "mean": round(255 * mean, 6), "stddev": round(255 * std, 6)}
            for mean, std in zip(card.mean, card.std, strict=True)
        ],
        "resize_type": "interpolation-area",
        "pre_processing_function": None,
    }


def _output(card: ModelCard) -> dict[str, Any]:
    return {
        "name": "land cover",
        "tasks": [TASK],
        "result": {
            "shape": [-1, len(card.legend), -1, -1],
            "dim_order": ["batch", "class", "height", "width"],
            "data_type": "float32",
        },
        "description": "Logits: void classes are left out, the highest one is the label",
        "classification:classes": [
            {
                "value": entry.id,
                "name": entry.name,
                "title": entry.name,
                "description": entry.name + (" (never predicted)" if entry.id in card.void else ""),
                "color_hint": entry.hex[1:].upper(),
                "nodata": entry.id in card.void,
            }
            for entry in card.legend
        ],
        "post_processing_function": None,
    }


def _hyperparameters(card: ModelCard) -> dict[str, Any]:
    """What a run needs to know besides, and how it was trained (without the course of it)."""
    training = {name: value for name, value in card.training.items() if name not in ("history", "calibration")}
    architecture = card.architecture
    return {
        "encoder": architecture.encoder,
        "decoder": architecture.decoder,
        "stride": card.stride,
        "halo": card.halo,
        "exact": card.exact,
        "temperature": card.temperature,
        "void": list(card.void),
        **({"training": training} if training else {}),
    }


def _assets(card: ModelCard, folder: Path, home: Path, onnx: Path | None) -> dict[str, Any]:
    weights = _asset(folder / WEIGHTS, home, "application/vnd.safetensors", "Weights", ["mlm:model", "mlm:weights"])
    bands = {"bands": [{"name": band} for band in card.bands]}
    weights |= {"file:checksum": _SHA256 + card.weights_sha256, "mlm:artifact_type": "safetensors"} | bands
    assets = {"weights": weights, "card": _asset(folder / CARD, home, "application/json", "Model card", ["metadata"])}
    if onnx is not None:
        assets["onnx"] = _asset(onnx, home, "application/octet-stream; framework=onnx", "ONNX", ["mlm:model"])
        assets["onnx"] |= {"mlm:artifact_type": "onnx", "mlm:framework": "ONNX"} | bands
    return assets


def _asset(path: Path, home: Path, media_type: str, title: str, roles: list[str]) -> dict[str, Any]:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UsageError(f"there is no file {path} to name in the item: {error.strerror}") from error
    href = Path(os.path.relpath(path, home)).as_posix()
    href = href if href.startswith("../") else f"./{href}"
    return {"href": href, "type": media_type, "title": title, "roles": roles, "file:size": size}
