"""Expert annotations, and the segmenters that predict structures where there are none."""
