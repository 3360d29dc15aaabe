"""Detectors that know normal images alone: neighbours, Gaussians, the generator's counterfactual."""
