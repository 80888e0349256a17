"""Which folder a model's name means: those that come along, those that the user has added, and paths."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from aerialseg.errors import ModelError
from aerialseg.model.catalogue import read_catalogue

CARD = "card.json"
WEIGHTS = "weights.safetensors"
NETWORK = "network.onnx"
"""The exact network as a graph (onnx_writer.py), which points into the weights."""
PICKLES = (".pkl", ".pth", ".pt", ".pickle", ".bin", ".ckpt", ".joblib")


def embedded() -> dict[str, Path]:
    """The models that come with the package: name to folder. The first is the default."""
    folder = Path(__file__).parent.parent / "embedded"
    return {"drone-landcover": folder} if (folder / CARD).exists() else {}


def user_folder() -> Path:
    """Where ``aerialseg model add`` puts models: in the user's data folder, whatever the system calls it."""
    return platformdirs.user_data_path("aerialseg", appauthor=False) / "models"


def added() -> dict[str, Path]:
    """The models that the user has added: name to folder, by name."""
    return {card.parent.name: card.parent for card in sorted(user_folder().glob(f"[!.]*/{CARD}"))}


def model_dir(ref: str | Path | None = None) -> Path:
    """The folder of a model: None or "embedded" for the default one, the name of one that comes along or was added, or
    a path.

    Raises ModelError that lists what exists.
    """
    names = added() | embedded()
    if ref is None or str(ref) == "embedded":
        if not embedded():
            raise ModelError(
                "this installation has no embedded model: give --model DIR, a folder made by 'aerialseg train'"
            )
        return next(iter(embedded().values()))
    if str(ref) in names:
        return names[str(ref)]
    path = Path(ref).expanduser()
    if path.is_file():
        return _folder_of_file(path)
    if path.is_dir() and (path / CARD).is_file():
        return path
    what = f"{path} has no {CARD}{pickles_in(path)}" if path.is_dir() else f"there is no model {str(ref)!r}"
    if str(ref) in read_catalogue():
        raise ModelError(f"the model {str(ref)!r} is not on this computer yet: aerialseg model add {ref}")
    raise ModelError(
        f"{what}: give a folder with {CARD} and {WEIGHTS}, or one of: {', '.join(names) or '(none embedded)'}"
    )


def _folder_of_file(path: Path) -> Path:
    if path.name in (CARD, WEIGHTS):
        return model_dir(path.parent)
    if path.suffix.lower() in PICKLES:
        raise ModelError(refuse_pickle(path))
    raise ModelError(f"{path} is not a model: give the folder with {CARD} and {WEIGHTS}")


def pickles_in(folder: Path) -> str:
    """What to say of the first pickle in a folder; "" where there is none."""
    found = sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in PICKLES)
    return f" but {found[0]}, a pickle, which is never opened because it can run any code" if found else ""


def refuse_pickle(path: Path) -> str:
    """Why it was not opened."""
    return (
        f"{path} is a pickle, which can run any code when it is opened: it was not opened. "
        f"Wanted a folder with {CARD} and {WEIGHTS} (safetensors holds numbers only)"
    )
