"""The timeline of a run: a lane for each worker, a bar for what it was at work on, drawn as SVG."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import Any

from aerialseg.progress import counted

WIDTH, LABEL, ROW, BAR, AXIS = 1080, 190, 22, 14, 24
MAX_LANES = 64
STEPS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 28800, 86400)
JOINED_S = 0.5
"""Blocks of one worker that follow each other so closely are one bar: memory must not grow with their number."""


@dataclass(slots=True)
class Bar:
    """What a worker did from ``began`` to ``ended`` (seconds since the epoch); kind is "done", "failed", "blocks"."""

    label: str
    kind: str
    began: float
    ended: float
    count: int = 1


@dataclass
class Gantt:
    """Worker to its bars, in time."""

    bars: dict[str, list[Bar]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, worker: str, bar: Bar) -> None:
        with self._lock:
            self.bars.setdefault(worker, []).append(bar)

    def add_block(self, worker: str, began: float, ended: float) -> None:
        with self._lock:
            lane = self.bars.setdefault(worker, [])
            for last in reversed(lane[-4:]):
                if last.kind == "blocks" and last.began <= ended and began - last.ended < JOINED_S:
                    last.began, last.ended = min(last.began, began), max(last.ended, ended)
                    last.count += 1
                    return
            lane.append(Bar("blocks", "blocks", began, ended))

    def to_json(self) -> dict[str, list[dict[str, Any]]]:
        return {
            worker: [
                {"label": bar.label, "kind": bar.kind, "began": round(bar.began, 3), "ended": round(bar.ended, 3)}
                for bar in sorted(bars, key=lambda bar: bar.began)
            ]
            for worker, bars in sorted(self.bars.items())
        }

    def svg(self, began: float, ended: float) -> str:
        """The picture, from ``began`` to ``ended``; "" where there is nothing to see."""
        if not self.bars:
            return ""
        gantt = sorted(self.bars.items())[:MAX_LANES]
        height, scale = AXIS + ROW * len(gantt), (WIDTH - LABEL - 10) / max(ended - began, 1e-3)
        parts = [f'<svg class="gantt" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="timeline of the workers">']
        parts += _ticks(began, ended, scale, height)
        for number, (worker, bars) in enumerate(gantt):
            top = AXIS + ROW * number
            parts.append(f'<text class="who" x="{LABEL - 8}" y="{top + 15}">{escape(_short(worker))}</text>')
            parts += _lane(bars, began, scale, top + (ROW - BAR) // 2)
        return "\n".join([*parts, "</svg>"])


def _lane(bars: list[Bar], began: float, scale: float, top: float) -> Iterator[str]:
    """Rectangles; bars too narrow to be told apart share one."""
    shown_to, kind_to = -1.0, ""
    for bar in sorted(bars, key=lambda bar: bar.began):
        left, right = LABEL + (bar.began - began) * scale, LABEL + (bar.ended - began) * scale
        if right < shown_to + 0.4 and bar.kind == kind_to:
            continue
        label = counted(bar.count, "block") if bar.kind == "blocks" else bar.label
        title = escape(f"{label}: {_clock(bar.began, seconds=True)}, {bar.ended - bar.began:.1f} s")
        yield (
            f'<rect class="{bar.kind}" x="{left:.1f}" y="{top}" width="{max(right - left, 1):.1f}" '
            f'height="{BAR}" rx="2"><title>{title}</title></rect>'
        )
        shown_to, kind_to = right, bar.kind


def _ticks(began: float, ended: float, scale: float, height: float) -> Iterator[str]:
    step = next((step for step in STEPS_S if (ended - began) / step <= 8), STEPS_S[-1])
    first = -(-began // step) * step
    for number in range(int((ended - first) / step) + 1):
        at = first + number * step
        x = LABEL + (at - began) * scale
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{AXIS - 4}" y2="{height}"/>'
        yield f'<text x="{x:.1f}" y="13">{_clock(at, seconds=step < 60)}</text>'


def _clock(at: float, *, seconds: bool) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S" if seconds else "%H:%M")


def _short(worker: str) -> str:
    return worker if len(worker) <= 28 else f"…{worker[-27:]}"
