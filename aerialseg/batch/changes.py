"""What is to be done, and why: each input against what the ledger says of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aerialseg._version import __version__
from aerialseg.batch.inputs import Source
from aerialseg.batch.ledger import DONE, FAILED, Entry, Ledger
from aerialseg.batch.output_names import Names
from aerialseg.batch.settings import decisive
from aerialseg.errors import InputError
from aerialseg.raster.describe import source_sha256
from aerialseg.raster.opening import is_remote

SKIP, DO, STAY_FAILED = "skip", "do", "stay failed"


@dataclass(frozen=True, slots=True)
class Decision:
    """``action`` is "skip", "do", or "stay failed" (failed before, nothing has changed since).

    entry: the ledger's line to be, for what is done; the one that is there for the rest.
    """

    source: Source
    action: str
    reason: str
    entry: Entry


def decide(
    sources: Sequence[Source],
    names: Mapping[str, Names],
    settings: Mapping[str, Any],
    model: str,
    ledger: Ledger | None,
    *,
    retry_failed: bool = False,
) -> Iterator[Decision]:
    """A decision for each input. ``model`` is the digest of the model's card; without a ledger everything is new."""
    known = {} if ledger is None else {entry.source: entry for entry in ledger.entries(thumbnails=False)}
    for source in sources:
        fresh = Entry(
            source.path,
            source.name,
            model=model,
            version=__version__,
            settings=decisive({**settings, **source.settings}),
            outputs=names[source.path],
            source_fields=dict(source.fields),
        )
        try:
            fresh.identity = source.identity
        except InputError as error:  # missing: whoever does it will say so again, in the report
            yield Decision(source, DO, str(error), fresh)
            continue
        yield _decide(source, fresh, known.get(source.path), retry_failed=retry_failed)


def _decide(source: Source, fresh: Entry, found: Entry | None, *, retry_failed: bool) -> Decision:
    if found is None:
        return Decision(source, DO, "new", fresh)
    changed = list(_changes(found, fresh))
    if found.status == FAILED:
        if changed:
            return Decision(source, DO, f"failed before; {', '.join(changed)}", fresh)
        if found.error_kind == "input" and not retry_failed:
            stay = replace(found, reason="failed before and has not changed since: --retry-failed tries it again")
            return Decision(source, STAY_FAILED, stay.reason, stay)
        return Decision(source, DO, "failed before", fresh)
    if found.status != DONE:
        return Decision(source, DO, "was not finished", fresh)
    touched = changed == ["the input changed"] and _same_content(source, found)
    if changed and not touched:
        return Decision(source, DO, ", ".join(changed), fresh)
    missing = [path for path in fresh.outputs.values() if not os.path.exists(path)]
    if missing:
        return Decision(source, DO, f"{missing[0]} is missing", fresh)
    reason = "the same content as before, though touched" if touched else "unchanged"
    return Decision(source, SKIP, reason, replace(found, identity=fresh.identity, reason=reason))


def _changes(found: Entry, fresh: Entry) -> Iterator[str]:
    if found.identity != fresh.identity:
        yield "the input changed"
    if found.model != fresh.model:
        yield "the model changed"
    for name in sorted(found.settings.keys() | fresh.settings.keys()):
        if found.settings.get(name) != fresh.settings.get(name):
            yield f"{name} changed from {_said(found.settings.get(name))} to {_said(fresh.settings.get(name))}"
    if found.version != fresh.version:
        yield f"aerialseg changed from {found.version} to {fresh.version}"
    if found.outputs != fresh.outputs:
        yield "the names of its outputs changed"


def _said(value: object) -> str:
    return "the default" if value is None else str(value)


def _same_content(source: Source, found: Entry) -> bool:
    return bool(found.sha256) and not is_remote(source.path) and source_sha256(source.path) == found.sha256
