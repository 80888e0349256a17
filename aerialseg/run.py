"""A run: a directory that can be looked into while it works, and taken up again after it was cut off.

::

    landcover.gpkg.run/
      plan.json        what is being done; another plan never goes on in the same directory
      lock             held by the process at work; the system drops it when that process dies
      blocks/*.tif     finished blocks: the file is there when it is whole
      products/        results on their way to their final names
      run.json         what it took
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aerialseg.errors import OutputError
from aerialseg.plan import Plan


class Run:
    """A view of a run's directory; it keeps no state of its own."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def blocks(self) -> Path:
        return self.folder / "blocks"

    @property
    def products(self) -> Path:
        return self.folder / "products"

    @property
    def classes(self) -> Path:
        """The class raster of all blocks: uint8, nodata 255, on the working grid."""
        return self.folder / "classes.tif"

    @property
    def confidence(self) -> Path:
        """The confidence raster of all blocks: uint8 per cent, nodata 255, on the working grid."""
        return self.folder / "confidence.tif"

    @property
    def report(self) -> dict[str, Any]:
        """What the run took, as written at its end; empty before."""
        return _read_json(self.folder / "run.json")

    def write_report(self, values: dict[str, Any]) -> None:
        _write_json(self.folder / "run.json", values)

    def begin(self, plan: Plan) -> None:
        """Make the directory, or take it up where it holds the same plan. Raises OutputError otherwise."""
        try:
            self.blocks.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self.products, ignore_errors=True)
            self.products.mkdir()
        except OSError as error:
            raise OutputError(f"cannot make the run directory {self.folder}: {error.strerror or error}") from error
        self._check_plan(plan)

    def _check_plan(self, plan: Plan) -> None:
        found = _read_json(self.folder / "plan.json")
        wanted = json.loads(json.dumps(plan.to_json()))
        if not found:
            _write_json(self.folder / "plan.json", wanted)
            return
        changed = sorted(name for name in wanted.keys() | found.keys() if found.get(name) != wanted.get(name))
        if changed:
            raise OutputError(
                f"{self.folder} holds a run of which {', '.join(changed)} changed since: "
                "delete that directory to start anew, or name another one with --keep-run"
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory; OutputError "in use" where another living process does."""
        from filelock import FileLock, Timeout

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / "lock", timeout=0)
            with lock:
                yield
        except Timeout as error:
            raise OutputError(
                f"{self.folder} is in use by another run: wait for it, or choose another output"
            ) from error
        except OSError as error:
            if isinstance(error, OutputError) or error.filename is None:
                raise
            raise OutputError(f"cannot make the run directory {self.folder}: {error.strerror or error}") from error

    def holds_blocks(self) -> bool:
        """Whether anything is there that a later run could use."""
        return self.blocks.is_dir() and any(self.blocks.glob("r*_c*.tif"))

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def run_folder(output: Path) -> Path:
    """Where the run for ``output`` lives unless the user says: beside it, named after it."""
    name = f"{output.name}.run"
    if len(os.fsencode(name)) > 255:  # the limit of most file systems
        import hashlib

        name = f"{hashlib.sha256(os.fsencode(output.name)).hexdigest()[:16]}.run"
    return output.parent / name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot read {path}: {error}; delete its directory to start anew") from error
    return values if isinstance(values, dict) else {}


def _write_json(path: Path, values: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    try:
        part.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
