"""Vectors: from a class raster to polygons that cover the ground exactly once."""
