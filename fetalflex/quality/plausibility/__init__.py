"""Mechanical checks of single images, each with a named reason."""
