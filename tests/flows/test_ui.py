"""`fetalflex ui`: both pages on loopback, and no process left behind, however it is ended."""

import signal
import subprocess
import sys
import urllib.request

import psutil
import pytest

from tests.flows.chain import environment, family, is_dead, wait_for
from tests.flows.conftest import Workspace

pytestmark = [pytest.mark.chain, pytest.mark.slow, pytest.mark.timeout(1500)]


def _read(address: str) -> str:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return str(answer.read().decode())


def _listening(process: psutil.Process) -> set[str]:
    found = process.net_connections("tcp")
    return {connection.laddr.ip for connection in found if connection.status == psutil.CONN_LISTEN}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_both_pages_are_served_and_end_with_the_command(workspace: Workspace, how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "ui", "--no-open"],
        cwd=workspace.root, env=environment(), stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            said = [process.stderr.readline().split() for _ in range(2)]
            everyone = family(psutil.Process(process.pid))
            assert [name for name, _ in said] == ["Prefect:", "MLflow:"]
            assert "<title>Prefect" in _read(said[0][1])
            assert "<title>MLflow" in _read(said[1][1])
            assert set().union(*map(_listening, everyone)) == {"127.0.0.1"}
            process.send_signal(how)
            code = process.wait(60)
            assert wait_for(lambda: all(map(is_dead, everyone)), 15), [p for p in everyone if not is_dead(p)]
        finally:
            process.kill()
    assert code == (-9 if how == signal.SIGKILL else 0)


def test_mlflow_shows_runs_metrics_inputs_and_the_model_to_its_page(workspace: Workspace) -> None:
    """Asked as the page asks: over the server that `ui` starts."""
    import json

    from tasks.pages import MLflowServer

    server = MLflowServer(workspace.root)
    try:
        server.wait()
        api = f"{server.page}/ajax-api/2.0/mlflow"
        (experiment,) = json.loads(_read(f"{api}/experiments/get-by-name?experiment_name=fetalflex")).values()
        body = json.dumps({"experiment_ids": [experiment["experiment_id"]]}).encode()
        request = urllib.request.Request(f"{api}/runs/search", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            runs = {run["info"]["run_name"]: run for run in json.load(answer)["runs"]}
        assert {"pipeline", "prealign", "train", "score", "evaluate"} == set(runs)
        assert "kid" in {metric["key"] for metric in runs["score"]["data"]["metrics"]}
        assert runs["train"]["inputs"]["dataset_inputs"]
        files = json.loads(_read(f"{api}/artifacts/list?run_id={runs['pipeline']['info']['run_id']}&path=report"))
        assert {f["path"] for f in files["files"]} == {
            f"report/{name}" for name in ("index.html", "quality.html", "samples.png")
        }
        model = json.loads(_read(f"{api}/registered-models/get?name=fetalflex-generator"))["registered_model"]
        assert "candidate" in {alias["alias"] for alias in model["aliases"]}
    finally:
        server.stop()
