"""Models that were trained elsewhere, with fastai or segmentation_models_pytorch, as models of this project."""
