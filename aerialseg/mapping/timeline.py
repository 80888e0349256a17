"""Where a run's time goes: when each stage was at work, for how long, on how many pixels."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

Span = tuple[str, float, float]
"""(stage, start, end) in seconds since 1970, which clocks of several machines agree on."""

_IN_BLOCKS = ("load", "read", "queue", "predict", "write")
ORDER = ("decode", "blocks", *_IN_BLOCKS, "mosaic", "hash", "polygons", "rasters", "publish")
"""Stages as a person meets them; `queue` is a block that has been read and waits for the device."""


@dataclass(frozen=True, slots=True)
class StageTime:
    """One stage of a run, times in seconds from the run's beginning.

    seconds: at work, each moment counted once however many threads were at it. thread_seconds: of all threads
    together. busy_share: ``seconds`` over the time of the whole run. span_share: over the time from ``begin`` to
    ``end``. mpx_per_s: million working pixels per second at work, None where none were counted.
    """

    stage: str
    begin: float
    end: float
    seconds: float
    thread_seconds: float
    busy_share: float
    span_share: float
    mpx_per_s: float | None


class Timeline:
    """Collects spans from any thread; `stages` adds them up."""

    def __init__(self) -> None:
        self.begin = time.time()
        self._spans: dict[str, list[tuple[float, float]]] = {}
        self._pixels: dict[str, int] = {}

    def add(self, spans: Iterable[Span]) -> None:
        for stage, start, end in spans:
            self._spans.setdefault(stage, []).append((start, end))

    def count(self, pixels: int, *stages: str) -> None:
        """Working pixels that the stages dealt with."""
        for stage in stages:
            self._pixels[stage] = self._pixels.get(stage, 0) + pixels

    @contextmanager
    def measure(self, stage: str, pixels: int = 0) -> Iterator[None]:
        """A block that is one span of ``stage``, also when it fails."""
        start = time.time()
        try:
            yield
        finally:
            self.add([(stage, start, time.time())])
            self.count(pixels, stage)

    def stages(self) -> tuple[StageTime, ...]:
        """Each stage so far, in the order of the work."""
        whole = max(time.time() - self.begin, 1e-9)
        names = sorted(self._spans, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
        return tuple(self._stage(name, whole) for name in names)

    def _stage(self, name: str, whole: float) -> StageTime:
        spans = sorted(self._spans[name])
        begin, end = spans[0][0], max(end for _, end in spans)
        seconds = merge_spans(spans)
        pixels = self._pixels.get(name, 0)
        return StageTime(
            stage=name,
            begin=begin - self.begin,
            end=end - self.begin,
            seconds=seconds,
            thread_seconds=sum(end - start for start, end in spans),
            busy_share=seconds / whole,
            span_share=seconds / max(end - begin, 1e-9),
            mpx_per_s=pixels / 1e6 / seconds if pixels and seconds else None,
        )


def merge_spans(spans: Iterable[tuple[float, float]]) -> float:
    """Length of what the spans cover together."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def to_json(stages: Iterable[StageTime]) -> dict[str, Any]:
    """JSON-ready: stage -> its figures."""
    return {line.stage: _rounded(asdict(line)) for line in stages}


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    figures = {name: value for name, value in values.items() if name != "stage"}
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}
