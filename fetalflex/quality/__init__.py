"""Scores of synthetic images: fidelity, control, privacy; and the gate."""
