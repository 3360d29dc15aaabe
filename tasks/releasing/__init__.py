"""Releases of a workspace: clean clones, the transaction, its proof, what a center's leaving means."""
