"""Models of the catalogue, fetched, checked, converted and kept in the user's data folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerialseg.errors import ModelError, UsageError
from aerialseg.files import check_own, naming_errors
from aerialseg.locks import locked
from aerialseg.model.card import ModelCard
from aerialseg.model.catalogue import Offer, read_catalogue
from aerialseg.model.download import check_file, download
from aerialseg.model.folders import CARD, user_folder
from aerialseg.model.store import verify
from aerialseg.progress import Progress, Silent, spoken_bytes
from aerialseg.toml import nearest

if TYPE_CHECKING:
    from torch import Tensor

    from aerialseg.model.smp_checkpoint import CheckpointAbout


def add_model(
    name: str, *, file: str | Path | None = None, overwrite: bool = False, progress: Progress | None = None
) -> Path:
    """The folder of the model ``name`` of the catalogue, which from now on goes by that name.

    file: its weights as published, fetched before, for machines without internet. overwrite: convert it again where it
    is here already. The licence is shown before the download; an interrupted download resumes.
    Raises UsageError, InputError, ModelError, ResourceError, OutputError.
    """
    progress, offers = progress or Silent(), read_catalogue()
    if name not in offers:
        raise UsageError(f"there is no model {name!r} in the catalogue: {nearest(name, offers)}")
    folder, offer = user_folder() / name, offers[name]
    if (folder / CARD).is_file() and not overwrite:
        verify(folder, ModelCard.read(folder / CARD))
        progress.note(f"{name} is here already; --overwrite makes it anew")
        return folder
    if lacking := [package for package in ("torch", "onnx") if find_spec(package) is None]:
        raise UsageError(f"converting its weights needs {' and '.join(lacking)}: pip install 'aerialseg[onnx]'")
    progress.note(f"{name}: {offer.purpose}, {spoken_bytes(offer.size)}, {offer.page}")
    progress.note(offer.licence_text)
    work = user_folder() / f".{name}"
    with naming_errors(user_folder()):
        user_folder().mkdir(parents=True, exist_ok=True)
    check_own(user_folder(), (), (name, work.name))
    with naming_errors(work):
        work.mkdir(exist_ok=True)
    with locked(work / "lock", lambda: f"{name} is being added by another process: wait for it"):
        source = _fetched(offer, file, work, progress)
        progress.note("converting the weights")
        _convert(name, offer, source, work / "new", progress)
        _put_into_place(work, folder)
    shutil.rmtree(work, ignore_errors=True)
    return folder


def _fetched(offer: Offer, file: str | Path | None, work: Path, progress: Progress) -> Path:
    """The published file, once its size and SHA-256 are known to be right."""
    if file is None:
        return download(offer.file, work / offer.file_name, progress)
    check_file(Path(file), offer.file)
    return Path(file)


def _convert(name: str, offer: Offer, source: Path, out: Path, progress: Progress) -> None:
    """Write the model folder. Raises ModelError where not every weight is that of the network, by name and shape."""
    from aerialseg.model.smp_checkpoint import convert_smp

    shutil.rmtree(out, ignore_errors=True)
    convert_smp(_read_weights(source), out, _about(name, offer), origin=offer.file_name, progress=progress)


def _about(name: str, offer: Offer) -> CheckpointAbout:
    """What the catalogue says of the file."""
    from aerialseg.model.smp_checkpoint import CheckpointAbout, ClassAbout

    return CheckpointAbout(
        name=name,
        gsd_m=offer.gsd_m,
        classes=tuple(ClassAbout(entry.name, entry.hex, entry.id not in offer.void) for entry in offer.classes),
        mean=offer.mean,
        std=offer.std,
        bands=offer.bands,
        licence=offer.licence_text,
        description=". ".join([offer.purpose, *([f"Its makers state: {offer.published}"] if offer.published else [])]),
        lineage=(f"{offer.page}, SHA-256 {offer.sha256}",),
        prefix=offer.prefix,
    )


def _read_weights(path: Path) -> Mapping[str, Tensor]:
    """Tensors by name, of a file that torch reads without running any code. Raises ModelError."""
    import torch

    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has many ways to say that a file is not what it should be
        raise ModelError(f"{path} holds more than weights, or is no checkpoint of torch: it is not used") from error
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ModelError(f"{path} holds no weights by name")
    return found


def _put_into_place(work: Path, folder: Path) -> None:
    """Give the new folder its name; an older one goes first."""
    old = work / "old"
    with naming_errors(folder):
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            os.replace(folder, old)
        os.replace(work / "new", folder)
