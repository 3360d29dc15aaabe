"""Generating and editing outside of the chain: layouts, runs, pictures and files. Imports nothing."""
