from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerialseg.mapping.timeline import Timeline, merge_spans, to_json


def test_each_moment_counts_once_however_many_threads_are_at_work() -> None:
    assert merge_spans([(0, 2), (1, 3), (1, 2), (5, 6)]) == 4
    assert merge_spans([]) == 0


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=30))
def test_the_union_is_what_counting_moments_gives(spans: list[tuple[int, int]]) -> None:
    moments = {moment for start, length in spans for moment in range(start, start + length)}
    assert merge_spans((start, start + length) for start, length in spans) == len(moments)


def test_a_stage_tells_time_at_work_of_threads_and_its_speed() -> None:
    timeline = Timeline()
    t = timeline.begin
    timeline.add([("read", t, t + 2), ("read", t + 1, t + 3), ("predict", t + 2, t + 4), ("read", t + 5, t + 6)])
    timeline.count(8_000_000, "read", "predict")
    timeline.begin = t - 2
    predict, read = sorted(timeline.stages(), key=lambda line: line.stage)
    assert (read.begin, read.end, read.seconds, read.thread_seconds) == pytest.approx((2, 8, 4, 5))
    assert read.span_share == pytest.approx(4 / 6)
    assert read.mpx_per_s == pytest.approx(2)
    assert predict.mpx_per_s == pytest.approx(4)
    assert [line.stage for line in timeline.stages()] == ["read", "predict"]


def test_what_fails_is_measured_too_and_json_says_it_all() -> None:
    timeline = Timeline()

    def fail() -> None:
        with timeline.measure("polygons", 10):
            time.sleep(0.01)
            raise ValueError("oh")

    with pytest.raises(ValueError, match="oh"):
        fail()
    values = json.loads(json.dumps(to_json(timeline.stages())))
    assert values["polygons"]["seconds"] >= 0.01
    assert 0 < values["polygons"]["busy_share"] <= 1
    assert set(values["polygons"]) == {
        "begin", "end", "seconds", "thread_seconds", "busy_share", "span_share", "mpx_per_s",
    }  # fmt: skip
