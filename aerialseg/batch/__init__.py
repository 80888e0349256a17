"""Jobs over many rasters: what is new or changed is computed, nothing twice."""
