"""A new center: probe, drafted profile, trial, page, approval."""
