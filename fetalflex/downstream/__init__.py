"""Does the synthetic data help? Classifiers and the protocol that compares them."""
