"""Where the results of each input go: named and compared before any work, so that no file is lost."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from aerialseg.batch.inputs import JobInput, stac_files
from aerialseg.batch.jobfile import Job
from aerialseg.batch.ledger import LEDGER, Ledger
from aerialseg.batch.lock import LOCK, OWNER, REPORTS, RUNS
from aerialseg.batch.patterns import ENDINGS, read_patterns
from aerialseg.batch.same_file import Given, Places, parents
from aerialseg.errors import InputError, UsageError
from aerialseg.files import printable
from aerialseg.mapping.outputs import SIDECARS
from aerialseg.raster.opening import is_remote, local_path, open_raster
from aerialseg.vector.existing import SQLITE_LOGS
from aerialseg.vector.formats import GEOPACKAGE, ending_of, layer_files

Names = dict[str, str]
"""Kind of output (layer, raster, confidence) to absolute path."""
INPUT_SIDECARS = (".tfw", ".tifw", ".tiffw", ".wld", ".prj", ".aux", ".rrd")
"""What GDAL reads in place of an input's ending; after its whole name it reads those of every GeoTIFF."""


def name_outputs(job: Job, sources: Iterable[JobInput]) -> dict[str, Names]:
    """Input's path -> its outputs.

    Raises UsageError where two inputs would share a file, or where an output would be an input, a file that belongs to
    one, or one of the job's own: by whatever name, links resolved and capitals ignored.
    """
    patterns, sources = read_patterns(job), list(sources)
    found = {one.path: {kind: pattern.fill(one) for kind, pattern in patterns.items()} for one in sources}
    places = Places()
    given = Given(dict(_given(job, sources, places)), places)
    taken: dict[str, tuple[str, str]] = {}
    for source in sources:
        dissolve = bool({**job.settings, **source.settings}.get("dissolve"))
        for kind, output in found[source.path].items():
            for file in files_of(kind, output, dissolve=dissolve):
                place = places.of(file)
                _refuse_given(given(file, place), kind, file, source)
                if place in taken:
                    raise UsageError(_shared(*taken[place], kind, file, source))
                taken[place] = source.path, file
    for folder in parents(path for names in found.values() for path in names.values()):
        place = places.of(folder)
        said = given(folder, place) or taken.get(place, ("", ""))[1]
        if said:
            raise UsageError(
                f"[outputs] wants {printable(folder)} as a folder, and that is {said}: choose another pattern"
            )
    return found


def files_of(kind: str, output: str, *, dissolve: bool) -> Iterator[str]:
    """The files that writing an output makes, replaces or removes: itself first, then those beside it."""
    if kind == "layer":
        yield from map(str, layer_files(Path(output), dissolve=dissolve))
        yield from (output + end for end in SQLITE_LOGS if ending_of(Path(output)) == GEOPACKAGE)
        return
    yield output
    yield from (output + end for end in SIDECARS if kind != "report")
    if kind == "confidence":
        yield os.path.splitext(output)[0] + ".qml"


def without_outputs(job: Job, sources: Iterable[JobInput]) -> list[JobInput]:
    """The inputs that this very job did not make: a wide pattern would take its results in the next night.

    The ledger knows what the job made, and a raster says itself what it was made of. Any other file is an input.
    """
    places = Places()
    made = _made(job, places)
    own = tuple(places.of(str(job.folder / name)) + os.sep for name in (RUNS, REPORTS))

    def is_own(source: JobInput) -> bool:
        place = places.of(source.path)
        return place.startswith(own) or any(_is_made_of(output, origin) for output, origin in made.get(place, ()))

    return [source for source in sources if is_remote(source.path) or not is_own(source)]


def _refuse_given(said: str | None, kind: str, file: str, source: JobInput) -> None:
    if said:
        raise UsageError(
            f"outputs.{kind} is {printable(file)} for {_named(source)}, but that is {said}, never to be overwritten: "
            "change the pattern; if an earlier job made that file, move it away"
        )


def _shared(owner: str, name: str, kind: str, file: str, source: JobInput) -> str:
    """The message where ``file`` was given before: to the input ``owner``, as ``name``."""
    if owner == source.path:
        return f"outputs.{kind} gives {printable(file)} for {_named(source)}, and so does another pattern of [outputs]"
    alike = "" if name == file else f" (named {printable(name)} there; on many disks that is one file)"
    return (
        f"outputs.{kind} gives {printable(file)} to {printable(owner)}{alike} and to {_named(source)}: put {{folder}} "
        "and {stem} into the pattern, or inputs of one name into jobs of their own"
    )


def _named(source: JobInput) -> str:
    return printable(source.path) if source.name in source.path else f"{source.name} ({printable(source.path)})"


def _given(job: Job, sources: Iterable[JobInput], places: Places) -> Iterator[tuple[str, str]]:
    """Path -> what it is, of all that the job reads and of its own files."""
    for name in (LEDGER, LOCK, OWNER, RUNS, REPORTS):
        yield str(job.folder / name), "the job's own"
    for path in (*(str(job.at(path)) for path in (job.inputs.list, job.inputs.csv) if path), *stac_files(job)):
        yield path, "the list of inputs"
    for source in sources:
        for raster in source.rasters:
            if is_remote(raster):
                continue
            stem = os.path.splitext(raster)[0]
            for path in (*(raster + end for end in SIDECARS), *(stem + end for end in INPUT_SIDECARS)):
                if places.holds(path):
                    yield path, f"{printable(path)}, which belongs to the input {_named(source)}"
            yield raster, f"the input {_named(source)}"


def _made(job: Job, places: Places) -> Mapping[str, list[tuple[str, str]]]:
    """Place -> (output, input it was made of) of the files that the ledger names, and of those beside them."""
    made = defaultdict(list)
    if (job.folder / LEDGER).exists():
        with Ledger(job.folder, read_only=True) as ledger:
            for entry in ledger.entries():
                for kind, output in entry.outputs.items():
                    for file in files_of(kind, output, dissolve=bool(entry.settings.get("dissolve"))):
                        made[places.of(file)].append((file if file.endswith(".aux.xml") else output, entry.source))
    return made


def _is_made_of(output: str, origin: str) -> bool:
    """Whether a raster says that it was made of ``origin``; of outputs that are none the ledger is believed."""
    if Path(output).suffix.lower() not in ENDINGS["raster"]:
        return True
    try:
        with open_raster(str(local_path(output))) as dataset:
            tags = dataset.tags()
            return tags.get("source") == printable(origin) or "source_manifest_sha256" in tags
    except InputError:
        return False
