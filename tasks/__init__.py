"""Thin Prefect tasks, one file per stage; versioning is the only caller of dvc, tracking alone imports mlflow."""

import os

# Linear algebra runs on one thread in every process of ours: results must not depend on how many cores a machine has.
# Set before numpy is imported; torch's own threads are set where work is done, from `compute` in params.yaml.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
# Where others compute beside us, threads that wait for one another spinning take the time that the awaited one needs:
# a training step of two threads then takes more than twice as long. So they spin for a moment alone, then sleep, which
# costs nothing where the machine is ours alone. No bit of a result depends on it. (GNU OpenMP's own.)
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
# Nothing is sent anywhere.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
