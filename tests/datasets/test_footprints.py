"""The footprints of chips open finished in the real QGIS: coloured by side, and the orthophoto shines through."""

from __future__ import annotations

from pathlib import Path

import pytest

from aerialseg.datasets.footprints import SIDES
from tests.datasets.test_chips import made, scene
from tests.qgis_runner import run_qgis

OPEN = """
for name in ("chips", "blocks"):
    layer = QgsVectorLayer(f"{args[0]}|layername={name}", name, "ogr")
    renderer = layer.renderer()
    categories = renderer.categories()  # which own their symbols
    classes = [(one.value(), one.label(), one.symbol()) for one in categories]
    answer[name] = dict(
        valid=layer.isValid(),
        features=layer.featureCount(),
        field=renderer.classAttribute(),
        classes=[[value, label, symbol.color().name(), symbol.opacity()] for value, label, symbol in classes],
    )
"""


@pytest.mark.qgis
def test_qgis_opens_chips_and_blocks_coloured_by_side(tmp_path: Path) -> None:
    scene(tmp_path)
    chips = made(tmp_path)
    answer = run_qgis(OPEN, str(chips.folder / "chips.gpkg"))
    assert [answer[name]["features"] for name in ("chips", "blocks")] == [len(chips.chips), len(chips.blocks)]
    for found in answer.values():
        assert (found["valid"], found["field"]) == (True, "held_out")
        assert [tuple(each[:3]) for each in found["classes"]] == [(str(s.id), s.name, s.hex) for s in SIDES]
        assert all(0 < opacity < 1 for *_, opacity in found["classes"])
