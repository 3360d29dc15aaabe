"""Prefect's and MLflow's own pages over the workspace's databases."""

import subprocess
import sys
import time
import webbrowser
from pathlib import Path

from tasks.process import die_with_parent
from tasks.progress import console
from tasks.server import Server, free_port
from tasks.tracking import tracking_uri


def serve_pages(root: Path, *, open_pages: bool) -> None:
    """Serve both until interrupted; say where they are, and open them where there is a browser."""
    prefect = Server(root)
    port = free_port()
    mlflow = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", tracking_uri(root), "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent,
    )  # fmt: skip
    try:
        prefect.wait()
        addresses = [prefect.url.removesuffix("/api"), f"http://127.0.0.1:{port}"]
        console.print(f"Prefect: {addresses[0]}\nMLflow:  {addresses[1]}\nCtrl-C ends both.")
        if open_pages:
            for address in addresses:
                webbrowser.open(address)
        while prefect.process.poll() is None and mlflow.poll() is None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        console.print("ended")
    finally:
        mlflow.terminate()
        prefect.stop()
