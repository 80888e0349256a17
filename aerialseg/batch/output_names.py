"""Where the results of each input go: the patterns of [outputs], filled in and checked before any work."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from aerialseg.batch.inputs import Source
from aerialseg.batch.jobfile import Job
from aerialseg.errors import UsageError
from aerialseg.toml import nearest
from aerialseg.vector.formats import ending_of

ENDINGS = {"raster": (".tif", ".tiff"), "confidence": (".tif", ".tiff"), "report": (".json",)}
Names = dict[str, str]
"""Kind of output (layer, raster, confidence) to absolute path."""


def name_outputs(job: Job, sources: Iterable[Source]) -> dict[str, Names]:
    """Input's path -> its outputs. Raises UsageError where two inputs would share an output, or a field is unknown."""
    taken: dict[str, str] = {}
    found: dict[str, Names] = {}
    for source in sources:
        names = {kind: _fill(job, pattern, source, kind) for kind, pattern in _patterns(job).items()}
        for kind, path in names.items():
            other = taken.setdefault(path, source.name)
            if other != source.name or list(names.values()).count(path) > 1:
                raise UsageError(
                    f"outputs.{kind} gives {path} to both {other} and {source.name}: put {{folder}} and {{stem}} into "
                    "the pattern, so that each input has a file of its own"
                )
        found[source.path] = names
    return found


def without_outputs(sources: Iterable[Source], outputs: Mapping[str, Names]) -> list[Source]:
    """The inputs that are not results of this very job: a wide pattern would take them in the next night."""
    made = {path for names in outputs.values() for path in names.values()}
    return [source for source in sources if source.path not in made]


def make_folders(names: Names) -> None:
    for path in names.values():
        Path(path).parent.mkdir(parents=True, exist_ok=True)


def _patterns(job: Job) -> dict[str, str]:
    """The patterns wanted, once their endings are known to be right: else every single input would fail."""
    found = {kind: pattern for kind, pattern in asdict(job.outputs).items() if pattern}
    for kind, pattern in found.items():
        if kind == "layer":
            ending_of(Path(pattern))
        elif Path(pattern).suffix.lower() not in ENDINGS[kind]:
            raise UsageError(f"outputs.{kind} is {pattern!r}: it must end in {' or '.join(ENDINGS[kind])}")
    return found


def _fill(job: Job, pattern: str, source: Source, kind: str) -> str:
    known = {"job": job.name, **source.fields}
    try:
        wanted = [field for _, field, _, _ in string.Formatter().parse(pattern) if field is not None]
    except ValueError as error:
        raise UsageError(f"outputs.{kind} is {pattern!r}: {error}") from None
    for field in wanted:
        if field not in known:
            raise UsageError(f"outputs.{kind} has the unknown field {{{field}}}: {nearest(field, known)}")
    return str(job.at(pattern.format_map(known)))
