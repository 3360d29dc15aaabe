"""Does the synthetic data help? Six classifiers and three detectors, two tasks, one pre-registered protocol."""
