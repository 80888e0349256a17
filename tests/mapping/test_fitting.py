"""A raster that does not fit the model is refused with what would fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from aerialseg.errors import MisfitError
from aerialseg.mapping import fitting
from aerialseg.mapping.fitting import Choice, advise
from aerialseg.mapping.segment import segment
from tests.raster.drawing import picture, write

RGB = ("red", "green", "blue")


def refusal(gsd_m: float | None, bands: tuple[str, ...] = ()) -> MisfitError:
    return MisfitError("no", None if gsd_m is None else (gsd_m, gsd_m), bands)


def test_imagery_too_coarse_for_the_model_is_told_which_model_is_for_it(tmp_path: Path) -> None:
    ortho = write(tmp_path / "a.tif", picture(40, 40), transform=Affine(0.2, 0, 5e5, 0, -0.2, 5e6))
    with pytest.raises(MisfitError) as caught:
        segment(ortho, tmp_path / "a.gpkg")
    for words in (
        "7.15 times coarser",
        "for 20 cm: aerialseg model add flair-inc-rgb (20 cm, 15 classes)",
        "aerialseg teach",
    ):
        assert words in str(caught.value)
    assert not (tmp_path / "a.gpkg").exists()


def test_grey_imagery_is_told_that_no_model_takes_it(tmp_path: Path) -> None:
    grey = write(tmp_path / "a.tif", np.full((1, 40, 40), 90, np.uint8), transform=Affine(0.03, 0, 5e5, 0, -0.03, 5e6))
    with pytest.raises(MisfitError, match=r"the model wants 3 .*; for 3 cm, gray: teach a model of your own"):
        segment(grey, tmp_path / "a.gpkg")


def test_models_here_come_first_where_they_are_nearest_and_bands_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    choices = [
        Choice("--model far", 0.6, RGB, 3),
        Choice("--model near", 0.25, RGB, 4),
        Choice("--model infrared", 0.2, (*RGB, "nir"), 5),
        Choice("--model coarse", 2.0, RGB, 6),
    ]
    monkeypatch.setattr(fitting, "_choices", lambda: iter(choices))
    said = advise(refusal(0.2, RGB))
    assert (
        said == "for 20 cm, red, green, blue: --model near (25 cm, 4 classes), or --model far (60 cm, 3 classes), "
        "or teach a model of your own (aerialseg teach)"
    )
    assert "infrared" in advise(refusal(0.2, (*RGB, "nir", "swir")))
    assert advise(refusal(None)).startswith("for this raster: --model far")
    assert advise(refusal(9.0)) == "for 9 m: teach a model of your own (aerialseg teach)"
