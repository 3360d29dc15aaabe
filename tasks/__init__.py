"""Thin Prefect tasks, one file per stage; versioning is the only caller of dvc, tracking the only importer of mlflow."""
