"""What is to be done, and why: each input against what the ledger says of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from aerialseg._version import __version__
from aerialseg.batch.inputs import JobInput
from aerialseg.batch.job_settings import decisive_settings
from aerialseg.batch.ledger import DONE, FAILED, Entry, Ledger
from aerialseg.batch.output_names import Names
from aerialseg.errors import InputError
from aerialseg.mapping.settings import SETTINGS, settings_deciding
from aerialseg.raster.describe import source_sha256
from aerialseg.raster.opening import is_remote
from aerialseg.raster.sidecars import names_in

SKIP, DO, REDRAW, STAY_FAILED = "skip", "do", "redraw", "stay failed"
INPUT = "the input changed"
NOTHING_KEPT = "nothing was kept to redraw from: outputs.raster and outputs.confidence, or keep.runs, would be"


@dataclass(frozen=True, slots=True)
class Decision:
    """``action`` is "skip", "do", "redraw" (without the network), or "stay failed" (nothing has changed since).

    entry: the ledger's line to be, for what is done; the one that is there for the rest. kept: class and confidence
    raster of an earlier run to redraw from; none where its run directory is there. lost_px: of that run.
    """

    source: JobInput
    action: str
    reason: str
    entry: Entry
    kept: tuple[str, ...] = ()
    lost_px: int = 0


def decide_actions(
    sources: Sequence[JobInput],
    names: Mapping[str, Names],
    settings: Mapping[str, Any],
    model: str,
    ledger: Ledger | None,
    *,
    retry_failed: bool = False,
    kept_run: Callable[[Entry], bool] = lambda entry: False,
) -> Iterator[Decision]:
    """A decision for each input. ``model`` is the digest of the model's card; without a ledger everything is new.

    kept_run: whether the run directory of an entry is there.
    """
    known = {} if ledger is None else {entry.source: entry for entry in ledger.entries(thumbnails=False)}
    listing = cache(names_in)  # many rasters lie in one folder
    for source in sources:
        fresh = Entry(
            source.path,
            source.name,
            model=model,
            version=__version__,
            settings=decisive_settings({**settings, **source.settings}),
            outputs=names[source.path],
            source_fields=dict(source.fields),
        )
        try:
            fresh.identity = source.identity(listing)
        except InputError as error:  # missing: whoever does it will say so again, in the report
            yield Decision(source, DO, str(error), fresh)
            continue
        found = known.get(source.path)
        decision = _decide(source, fresh, found, retry_failed=retry_failed)
        if found is not None and decision.action == DO and found.status == DONE:
            decision = _redrawn(decision, found, kept_run)
        yield decision


def _redrawn(decision: Decision, found: Entry, kept_run: Callable[[Entry], bool]) -> Decision:
    """The decision to redraw, where only the layer is another one and what it is drawn from was kept."""
    fresh = decision.entry
    if (found.identity, found.model, found.version) != (fresh.identity, fresh.model, fresh.version):
        return decision
    old, new = (settings_deciding("blocks", "raster", values=entry.settings) for entry in (found, fresh))
    if old != new:
        return decision
    if kept_run(replace(fresh, numerics=found.numerics)):
        return replace(decision, action=REDRAW)
    kept = tuple(found.outputs.get(kind, "") for kind in ("raster", "confidence"))
    if all(_is_as_made(path, found) for path in kept):
        return replace(decision, action=REDRAW, kept=kept, lost_px=found.lost_px)
    if decision.reason.endswith("is missing"):
        return decision
    return replace(decision, reason=f"{decision.reason} ({NOTHING_KEPT})")


def _is_as_made(path: str, found: Entry) -> bool:
    """Whether an output is there as the entry's run has left it."""
    try:
        return os.stat(path).st_mtime <= found.ended
    except OSError:
        return False


def _decide(source: JobInput, fresh: Entry, found: Entry | None, *, retry_failed: bool) -> Decision:
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
    touched = changed == [INPUT] and _same_content(source, found)
    if changed and not touched:
        return Decision(source, DO, ", ".join(changed), fresh)
    missing = [path for path in fresh.outputs.values() if not os.path.exists(path)]
    if missing:
        return Decision(source, DO, f"{missing[0]} is missing", fresh)
    reason = "the same content as before, though touched" if touched else "unchanged"
    return Decision(source, SKIP, reason, replace(found, identity=fresh.identity, reason=reason))


def _changes(found: Entry, fresh: Entry) -> Iterator[str]:
    if found.identity != fresh.identity:
        yield INPUT if _beside(found) == _beside(fresh) else "a file beside the input changed (mask, .aux.xml ...)"
    if found.model != fresh.model:
        yield "the model changed"
    for name in sorted(found.settings.keys() | fresh.settings.keys()):
        if found.settings.get(name) != fresh.settings.get(name):
            option = SETTINGS[name].option if name in SETTINGS else name
            yield f"{option} changed from {_said(found.settings.get(name))} to {_said(fresh.settings.get(name))}"
    if found.version != fresh.version:
        yield f"aerialseg changed from {found.version} to {fresh.version}"
    if found.outputs != fresh.outputs:
        yield "the names of its outputs changed"


def _beside(entry: Entry) -> str:
    """Of an identity, the part that is of the sidecars."""
    return entry.identity.partition(":")[2]


def _said(value: object) -> str:
    return "the default" if value is None else str(value)


def _same_content(source: JobInput, found: Entry) -> bool:
    return bool(found.sha256) and not is_remote(source.path) and source_sha256(source.path) == found.sha256
