"""The studio: a page where a person edits anatomy and sees the image change. Imports nothing."""
