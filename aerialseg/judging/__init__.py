"""How good a model or a map is: scores, calibration, comparison, and the pages that show them. Needs no fastai."""
