"""What data sets are made of before anything is trained: chips of orthophotos, places, splits. Needs no fastai."""
