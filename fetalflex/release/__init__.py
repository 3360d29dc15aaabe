"""Releases: what a version of the dataset is made of, its forms for users, its proof, and how two of them differ."""
