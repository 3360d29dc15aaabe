"""Copies of training images, and whether the search for them can be believed."""
