"""Commands of the command line, one file per subject; `flows.cli` lists them. Imports nothing."""
