"""Scores of models and maps, calibration, reports."""
