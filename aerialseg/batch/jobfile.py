"""A job file: what configs/jobs/*.toml say. Every key is documented in docs/batch.md."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from aerialseg.batch.job_settings import read_settings
from aerialseg.errors import UsageError
from aerialseg.toml import build, naming_file, nearest, quoted, read_toml

Kind = Literal["usage", "input", "output", "resources", "other"]


@dataclass(frozen=True, slots=True)
class InputsTable:
    """Where inputs come from; exactly one of glob, list, csv and stac. Paths are relative to ``base``.

    asset: of a STAC item, the key of the asset to take; None takes the one that is a GeoTIFF of the data.
    column: of a CSV file, the one with the paths. allow_empty: whether a run without any input is a success. mosaic:
    a pattern with fields in braces, such as ``"{folder}"``: inputs for which it gives the same are one orthophoto; true
    makes one of all.
    """

    glob: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    list: str | None = None
    csv: str | None = None
    column: str = "path"
    stac: tuple[str, ...] = ()
    asset: str | None = None
    mosaic: str | bool = False
    allow_empty: bool = False

    def __post_init__(self) -> None:
        given = [name for name in ("glob", "list", "csv", "stac") if getattr(self, name)]
        if len(given) != 1:
            raise UsageError(f"[inputs] has {' and '.join(given) or 'no source'}: wanted one of glob, list, csv, stac")


@dataclass(frozen=True, slots=True)
class ModelTable:
    """path: a folder relative to the job file, or the name of a model that comes along; None for the default one."""

    path: str | None = None


@dataclass(frozen=True, slots=True)
class OutputsTable:
    """Patterns of names, with fields in braces; all but the layer only where wanted. report: of each input, as JSON."""

    layer: str
    raster: str | None = None
    confidence: str | None = None
    report: str | None = None


@dataclass(frozen=True, slots=True)
class RunTable:
    """rasters: how many are worked on at a time in this process. spread_blocks: with --workers or --dask, rasters of
    more blocks than this are spread over the workers block by block; one worker does a smaller one alone."""

    rasters: int = 1
    spread_blocks: int = 4

    def __post_init__(self) -> None:
        if self.rasters < 1 or self.spread_blocks < 0:
            raise UsageError("run.rasters wants 1 or more, run.spread_blocks 0 or more")


@dataclass(frozen=True, slots=True)
class Retry:
    """times: tries after the first one. wait_s, factor, max_wait_s: of the pause before each. on: kinds of errors."""

    times: int = 2
    wait_s: float = 10.0
    factor: float = 3.0
    max_wait_s: float = 600.0
    on: tuple[Kind, ...] = ("output", "resources", "other")

    def __post_init__(self) -> None:
        if self.times < 0 or self.wait_s < 0 or self.factor < 1 or self.max_wait_s < 0:
            raise UsageError("retry wants times, wait_s, max_wait_s of 0 or more and a factor of 1 or more")

    def pause_s(self, attempt: int) -> float:
        """Seconds to wait after the attempt of that number (1 is the first)."""
        pause: float = min(self.max_wait_s, self.wait_s * self.factor ** (attempt - 1))
        return pause


@dataclass(frozen=True, slots=True)
class Failures:
    """tolerate: this many inputs, or this share of them (``"2 %"``), may fail before no more are begun."""

    tolerate: int | str = "100 %"

    def __post_init__(self) -> None:
        self.allowed(100)

    def allowed(self, inputs: int) -> int:
        if isinstance(self.tolerate, int):
            if self.tolerate >= 0:
                return self.tolerate
        elif self.tolerate.endswith("%"):
            try:
                share = float(self.tolerate[:-1])
            except ValueError:
                share = -1.0
            if 0 <= share <= 100:
                return int(inputs * share / 100)
        raise UsageError(f'failures.tolerate is {self.tolerate!r}: wanted a number of inputs, or a share such as "2 %"')


@dataclass(frozen=True, slots=True)
class Keep:
    """runs: whether the run directories (blocks) of finished inputs stay. reports: how many runs' reports stay."""

    runs: bool = False
    reports: int = 30

    def __post_init__(self) -> None:
        if self.reports < 1:
            raise UsageError(f"keep.reports is {self.reports}: wanted 1 or more")


@dataclass(frozen=True, slots=True)
class Hooks:
    """after: commands to run when the report is written; on: after which runs; timeout_s: for each command."""

    after: tuple[str, ...] = ()
    on: Literal["always", "failure", "success"] = "always"
    timeout_s: float = 300.0

    def __post_init__(self) -> None:
        for command in self.after:
            try:
                words = shlex.split(command)
            except ValueError as error:
                raise UsageError(f"hooks.after {command!r}: {error}") from None
            if not words:
                raise UsageError("hooks.after has an empty command: write one, or remove it")


@dataclass(frozen=True, slots=True)
class Job:
    """A job file as read. ``base`` is the folder of the ``file``, ``folder`` where ledger, lock and reports are."""

    name: str
    file: Path
    base: Path
    folder: Path
    inputs: InputsTable
    outputs: OutputsTable
    model: ModelTable = ModelTable()
    settings: Mapping[str, Any] = field(default_factory=dict)
    run: RunTable = RunTable()
    retry: Retry = Retry()
    failures: Failures = Failures()
    keep: Keep = Keep()
    hooks: Hooks = Hooks()

    def at(self, path: str) -> Path:
        """A path of the job file, made absolute; ``~`` and environment variables are understood."""
        return Path(os.path.abspath(self.base / os.path.expanduser(os.path.expandvars(path))))

    @property
    def model_ref(self) -> str | None:
        """What ``segment`` takes for the model: a path where one is there, else the name."""
        if self.model.path is None:
            return None
        path = self.at(self.model.path)
        return str(path) if path.exists() or "/" in self.model.path else self.model.path


TABLES: dict[str, type] = {
    "inputs": InputsTable,
    "model": ModelTable,
    "outputs": OutputsTable,
    "run": RunTable,
    "retry": Retry,
    "failures": Failures,
    "keep": Keep,
    "hooks": Hooks,
}


def read_job(path: str | Path) -> Job:
    """The job of a TOML file, checked. Raises InputError (no such file, not TOML), UsageError (a key, a value)."""
    path = Path(os.path.abspath(path))
    values = read_toml(path, "job file")
    with naming_file(path):
        return job_of(values, path)


def job_of(values: Mapping[str, Any], path: Path) -> Job:
    """The job of a dict as TOML gives it; ``path`` is the file's. Raises UsageError."""
    known = {"name", "folder", "settings", *TABLES}
    for name in values:
        if name not in known:
            raise UsageError(f"unknown key {quoted(name)}: {nearest(name, known)}")
    for needed in ("inputs", "outputs"):
        if needed not in values:
            raise UsageError(f"the table [{needed}] is missing")
    for text in ("name", "folder"):
        if not isinstance(values.get(text, ""), str):
            raise UsageError(f"{text} is {values[text]!r}: wanted text")
    settings = values.get("settings", {})
    if not isinstance(settings, Mapping):
        raise UsageError(f"settings is {settings!r}: wanted a table, [settings]")
    tables: dict[str, Any] = {name: build(kind, values[name], name) for name, kind in TABLES.items() if name in values}
    name = values.get("name", path.stem)
    job = Job(name, path, path.parent, path.parent, **tables)
    folder = job.at(values.get("folder", f"{path.stem}.job"))
    return replace(job, folder=folder, settings=read_settings(settings, "settings", job.at))
