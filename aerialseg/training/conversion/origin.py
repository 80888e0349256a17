"""A file that a training elsewhere wrote: weights are read; a pickle is opened on request, in a child process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aerialseg.errors import ModelError
from aerialseg.progress import Progress
from aerialseg.training.conversion.unpickle_process import ANSWERED, ASKED, FACTS, NUMBERS, WEIGHT

FLAG = "--i-trust-this-pickle"
PLAIN = (".pth", ".pt", ".ckpt", ".safetensors")
"""Endings of files that may hold weights alone, which torch reads without running anything."""
TIMEOUT_S = 600
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_UNSCALED = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@dataclass(frozen=True, slots=True)
class Origin:
    """What was found in a file. answers: (an image, the logits that the network gave for it), if it could be asked."""

    weights: Mapping[str, Tensor]
    vocab: tuple[str, ...] = ()
    normalisation: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: _IMAGENET)
    answers: tuple[Tensor, Tensor] | None = None


def open_origin(path: Path, trusted: bool, progress: Progress) -> Origin:
    if path.suffix.lower() in PLAIN and not trusted:
        return Origin(read_weights(path))
    if not trusted:
        raise ModelError(
            f"{path} is a pickle, which can run any code when it is opened: it was not opened. If you know who made it "
            f"and trust them with this computer, add {FLAG}"
        )
    with tempfile.TemporaryDirectory(prefix="aerialseg-convert-") as folder:
        progress.note(f"opening {path.name} in a process of its own; whatever code is in it runs there")
        return _opened_by_child(path.resolve(), Path(folder), progress)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a file that holds nothing else: safetensors, or torch's own format, read without running code."""
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            with torch.serialization.safe_globals(_of_an_optimizer()):
                found = torch.load(path, "cpu", weights_only=True)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read the weights {path}: {error}") from error
    except Exception as error:  # torch has many ways to say that a file is not what it should be
        raise ModelError(
            f"{path} holds more than weights, or is damaged: it was not opened as a pickle, which can run any code. "
            f"If you trust whoever made it with this computer, add {FLAG}"
        ) from error
    for wrapped in ("model", "state_dict"):  # by fastai, by Lightning
        found = found.get(wrapped, found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ModelError(f"{path} holds no weights by name: wanted what learn.save() or model.state_dict() gives")
    return {name.removeprefix("module."): tensor.float() for name, tensor in found.items()}


def _of_an_optimizer() -> list[Any]:
    """What fastai's optimizer state holds beside tensors, in the file that learn.save() writes: lists and numbers."""
    from fastcore.foundation import L

    scalar = np.float64(0).__reduce__()[0]
    numbers = [type(np.dtype(kind)) for kind in ("f8", "f4", "i8")]
    return [L, np.dtype, scalar, (scalar, "numpy.core.multiarray.scalar"), *numbers]


def _opened_by_child(path: Path, folder: Path, progress: Progress) -> Origin:
    said = _run_child(path, folder)
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if "error" in facts:
            raise ModelError(f"{path} cannot be used: {facts['error']}")
        numbers = load_file(folder / NUMBERS)
        answers = numbers.pop(ASKED), numbers.pop(ANSWERED)
        given = facts["normalisation"]
        scaling = {key: tuple(float(v) for v in given[key]) for key in ("mean", "std")} if given else _UNSCALED
        vocab, stubs = (tuple(str(value) for value in facts[key]) for key in ("vocab", "stubs"))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"{path} could not be opened: {said or error}") from error
    if stubs:
        progress.note(f"not in the file, and not needed to predict: {', '.join(stubs)} of the notebook that made it")
    weights = {key.removeprefix(WEIGHT): tensor for key, tensor in numbers.items()}
    return Origin(weights, vocab, scaling, answers)


def _run_child(path: Path, folder: Path) -> str:
    """The last line that the child said, in a session of its own and with an environment that holds no secrets."""
    kept = {key: os.environ[key] for key in ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH") if key in os.environ}
    home = {key: str(folder) for key in ("HOME", "USERPROFILE", "TMPDIR", "TEMP", "XDG_CACHE_HOME", "MPLCONFIGDIR")}
    package = str(Path(__file__).parents[3])
    code = f"import os, sys; sys.path.append({package!r}); "
    code += "from aerialseg.training.conversion.unpickle_process import main; os._exit(main(*sys.argv[1:3]))"
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", code, str(path), str(folder)],
        cwd=folder,
        env=kept | home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, said = child.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"{path} was not open after {TIMEOUT_S} s, so opening it was ended: is it a complete checkpoint?"
        ) from error
    finally:
        if child.poll() is None:
            _kill(child)
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _kill(child: subprocess.Popen[bytes]) -> None:
    """The child and whatever it has started."""
    if hasattr(os, "killpg"):
        os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()
    child.wait()
