"""The embedded data: simulated fetal anatomy turned into B-mode ultrasound."""
