"""``aerialseg teach``: from orthophotos and a few labels to a model."""
