"""The timeline: blocks that follow each other are one bar, and the picture fits whatever it shows."""

from __future__ import annotations

from xml.etree import ElementTree as Xml

import pytest

from aerialseg.batch.gantt import WIDTH, Bar, Gantt

AT = 1_800_000_000.0


def test_blocks_of_a_worker_that_follow_each_other_are_one_bar() -> None:
    gantt = Gantt()
    for number in range(10_000):
        gantt.add_block("w", AT + number, AT + number + 0.75)
    gantt.add_block("w", AT + 20_000, AT + 20_001)
    assert [(bar.count, bar.ended - AT) for bar in gantt.bars["w"]] == [(10_000, 9_999.75), (1, 20_001)]


def test_blocks_that_overlap_on_one_worker_are_one_bar_whatever_their_order() -> None:
    gantt = Gantt()
    for began, ended in ((2, 5), (0, 3), (4, 8)):
        gantt.add_block("w", AT + began, AT + ended)
    assert [(bar.began - AT, bar.ended - AT, bar.count) for bar in gantt.bars["w"]] == [(0, 8, 3)]


@pytest.mark.parametrize("seconds", [0.0, 0.3, 59.0, 3600.0, 400_000.0])
def test_the_picture_is_xml_and_stays_inside(seconds: float) -> None:
    gantt = Gantt()
    gantt.add("host:1 <&>", Bar("a & <b>.tif", "done", AT, AT + seconds / 2))
    gantt.add("host:2", Bar("c.tif", "failed", AT + seconds / 2, AT + seconds))
    root = Xml.fromstring(gantt.svg(AT, AT + seconds))
    bars = root.findall("rect")
    assert [bar.get("class") for bar in bars] == ["done", "failed"]
    assert all(float(bar.get("x", "")) + float(bar.get("width", "")) <= WIDTH for bar in bars)
    assert len(root.findall("line")) <= 10
    assert "a & <b>.tif" in str(bars[0].findtext("title"))


def test_thousands_of_bars_share_the_pixels_that_there_are() -> None:
    gantt = Gantt()
    for number in range(20_000):
        gantt.add("w", Bar(str(number), "done", AT + number, AT + number + 1))
    assert len(Xml.fromstring(gantt.svg(AT, AT + 20_000)).findall("rect")) < 2_500


def test_nothing_is_no_picture() -> None:
    assert Gantt().svg(AT, AT + 1) == ""
