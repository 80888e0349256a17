"""The folder of a run that is kept for 'Redraw polygons', and what goes when a run that is not kept is cancelled.

Nothing of QGIS is imported here.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path


class KeptRun:
    """``run/`` is the command's own; ``call.json`` says what it was called with: input, model, area of interest."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.run = self.folder / "run"
        self._call = self.folder / "call.json"

    def write(self, call: list[str]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._call.write_text(json.dumps({"segment": call}, indent=1), encoding="utf-8")

    def read(self) -> list[str]:
        """What ``aerialseg segment`` was called with.

        Raises ValueError where the folder holds no kept run.
        """
        try:
            call = json.loads(self._call.read_text(encoding="utf-8"))["segment"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.folder} holds no kept run: choose the folder that was 'Kept run' in 'Map land cover'"
            ) from error
        return [str(one) for one in call]


class RunPlace:
    """Where files of a run lie while it works: in the kept folder, or in one that goes at the end.

    An interrupted command keeps what is done beside its output, and its hidden files; where the run is not kept, what
    was not there before goes.
    """

    def __init__(self, outputs: list[str], kept: str) -> None:
        self._outputs = [Path(path) for path in outputs]
        self._kept = Path(kept) if kept else None
        self._before = set(self._unfinished())
        self._own: list[str] = []

    def __enter__(self) -> RunPlace:
        return self

    def __exit__(self, *error) -> None:
        for folder in self._own:
            shutil.rmtree(folder, ignore_errors=True)
        if error[0] is not None:
            for path in set(self._unfinished()) - self._before:
                _remove(path)

    def file(self, name: str) -> str:
        """A path for a file that the command reads."""
        if self._kept:
            self._kept.mkdir(parents=True, exist_ok=True)
            return str(self._kept / name)
        self._own.append(tempfile.mkdtemp(prefix="aerialseg-"))
        return str(Path(self._own[-1], name))

    def _unfinished(self) -> Iterator[Path]:
        for output in self._outputs:
            yield from output.parent.glob(f"{glob.escape(output.name)}.run")
            # as aerialseg calls its hidden files beside an output
            yield from output.parent.glob(f".{sha256(os.fsencode(output.name)).hexdigest()[:16]}.part*")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
