"""The page of the downstream evaluation: tables, curves, matrices, examples."""
