"""Training: the only place that imports fastai."""
