"""The rasters that are mapped as one: described, hashed, and remembered from one run to the next."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from aerialseg.errors import InputError
from aerialseg.files import remove_if_there, write_json
from aerialseg.mapping.plan import Plan
from aerialseg.mapping.run import MOSAIC, SOURCES, Run, read_sources
from aerialseg.mapping.settings import MapSettings
from aerialseg.raster.describe import RasterInfo, describe, is_unchanged, source_sha256
from aerialseg.raster.joining import Refusal, check_refused
from aerialseg.raster.opening import gdal_environment, is_remote
from aerialseg.raster.sidecars import identity_of
from aerialseg.raster.vrt import VrtSource, check_claim

LISTED = 20
"""Sources whose hashes stand in the metadata of a product; of more, the hash of the list of hashes."""


def describe_all(
    paths: Sequence[str | Path], settings: MapSettings, claims: Mapping[str, VrtSource] | None = None
) -> tuple[list[RasterInfo], list[Refusal]]:
    """What each raster is, and those that cannot be opened with the reason, which ``on_read_error`` must allow.

    claims: real path of a raster -> what it must be. Raises InputError.
    """
    found, refused = [], []
    with gdal_environment(alone=True):  # once, for most have no files beside them
        for path in paths:
            try:
                info = describe(path, allow_remote=settings.allow_remote, crs=settings.crs)
                if claims and (claim := claims.get(os.path.realpath(info.path))):
                    check_claim(info, claim)
                found.append(info)
            except InputError as error:
                if len(paths) == 1:
                    raise
                refused.append((str(path), str(error)))
    check_refused(refused, len(paths), settings.on_read_error)
    return found, refused


def changed_since(infos: Sequence[RasterInfo], *, allow_remote: bool) -> list[str]:
    """Paths of those that are not what `describe` found any more."""
    return [info.path for info in infos if not _is_there(info, allow_remote)]


def _is_there(info: RasterInfo, allow_remote: bool) -> bool:
    try:
        return is_unchanged(info, allow_remote=allow_remote)
    except InputError:  # gone
        return False


def forget_blocks(run: Run, plan: Plan, paths: Collection[str]) -> None:
    """Remove the blocks, and what was made of them, that see any of these sources."""
    gone = {number for number, piece in enumerate(plan.view.pieces) if piece.path in paths}
    for index, core in enumerate(plan.grid):
        if gone.intersection(plan.view.meeting(plan.grid.window(core)).tolist()):
            remove_if_there(plan.block_path(index, run.blocks))
    for path in (run.folder / MOSAIC, run.folder / SOURCES, run.classes, run.confidence):
        remove_if_there(path)


def hash_all(infos: Sequence[RasterInfo]) -> dict[str, str]:
    """Path -> SHA-256 of each file; of those that are fetched piece by piece there is none. Raises InputError."""
    return {info.path: source_sha256(info.path) for info in infos if not is_remote(info.path)}


def remember(run: Run, plan: Plan, hashes: Mapping[str, str]) -> None:
    """Note what the sources are, so that one which is only touched is known again.

    Only after `changed_since` has found nothing: the hashes must be those of what was read. Raises InputError,
    OutputError.
    """
    stamps = {piece.path: piece.digest for piece in plan.view.pieces}
    known = [
        [info.path, info.digest, stamps.get(info.path, info.digest), f"{hashes[info.path]}:{_beside(info)}"]
        for info in plan.sources
        if info.path in hashes
    ]
    write_json(run.folder / SOURCES, {"sources": known})


def known_stamps(run: Run, infos: Sequence[RasterInfo]) -> dict[str, str]:
    """Path -> digest under which a source's blocks were computed before, if its content is what it was then.

    A file of which the time alone has changed is hashed again and found equal. Raises InputError, OutputError.
    """
    known = read_sources(run)
    found = {}
    for info in infos:
        digest, stamp, content = known.get(info.path, ("", "", ""))
        if digest == info.digest or (content and content == f"{source_sha256(info.path)}:{_beside(info)}"):
            found[info.path] = stamp
    return found


def _beside(info: RasterInfo) -> str:
    return identity_of(Path(info.path)).partition(":")[2]


def provenance(paths: Sequence[str], hashes: Mapping[str, str]) -> dict[str, str]:
    """Metadata that says what the sources were: path and SHA-256 of each or, of many, of their list (as sha256sum
    writes it)."""
    if len(paths) == 1:
        return {"source": paths[0], "source_sha256": hashes.get(paths[0], "")}
    lines = [f"{hashes.get(path, '')}  {path}" for path in paths]
    manifest = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    return {
        "source": common_folder(paths),
        "source_count": str(len(paths)),
        "source_files": "; ".join(lines) if len(paths) <= LISTED else "",
        "source_manifest_sha256": hashlib.sha256(manifest).hexdigest(),
    }


def common_folder(paths: Sequence[str]) -> str:
    """The folder that holds them all; the first path where they have none in common."""
    try:
        return os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:
        return paths[0]
