"""Rasters: integer geometry, reading windows, writing blocks."""
