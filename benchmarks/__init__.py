"""Benchmarks: plain scripts, run from the checkout."""
