"""Six classifiers from libraries, in three sizes."""
