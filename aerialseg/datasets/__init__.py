"""Data sets: image and mask pairs, chips, scenes, splits."""
