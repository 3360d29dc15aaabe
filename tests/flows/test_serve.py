"""The deployments: those of `fetalflex serve` and those of prefect.yaml are the same three flows, one at a time."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint

from fetalflex.errors import UsageError
from flows.serve import Schedules, deployments
from tasks.server import Server, free_port
from tasks.workspace import create_workspace
from tests.flows.chain import cli, environment, family, is_dead, wait_for

ROOT = Path(__file__).parents[2]


def _lines(found: list) -> dict[str, list[str | None]]:
    return {f"{d.flow_name}/{d.name}": [getattr(s.schedule, "cron", None) for s in d.schedules or []] for d in found}


def test_the_default_is_monthly_weekly_and_on_demand() -> None:
    found = deployments(Path(), Schedules(), {"repository_url": ""})
    assert _lines(found) == {
        "regenerate/monthly": ["0 3 1 * *"], "verify/weekly": ["0 5 * * 0"], "onboard/on-demand": [],
    }  # fmt: skip
    assert {d.concurrency_limit for d in found} == {1}
    assert {d.concurrency_options.collision_strategy.value for d in found} == {"ENQUEUE"}


def test_prefect_yaml_names_the_same_deployments() -> None:
    written = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    served = deployments(Path(), Schedules(), {})
    assert {f"{load_flow_from_entrypoint(d['entrypoint']).name}/{d['name']}" for d in written} == set(_lines(served))
    assert [d["entrypoint"] for d in written] == [d.entrypoint for d in served]
    for d in written:
        flow = load_flow_from_entrypoint(d["entrypoint"])
        assert set(d.get("parameters", {})) <= set(flow.parameters.properties)
        assert [s["cron"] for s in d.get("schedules", [])] == _lines(served)[f"{flow.name}/{d['name']}"]


def test_an_interval_takes_the_place_of_the_cron_line() -> None:
    (schedule,) = deployments(Path(), Schedules(every_hours=6.0), {})[0].schedules
    assert schedule.schedule.interval.total_seconds() == 6 * 3600


def test_a_cron_line_that_is_none_is_one_line() -> None:
    with pytest.raises(UsageError, match="a schedule cannot be read"):
        deployments(Path(), Schedules(regenerate="every month"), {})


def test_a_name_stands_before_all_names() -> None:
    found = deployments(Path(), Schedules(name="hearts"), {})
    assert set(_lines(found)) == {"regenerate/hearts-monthly", "verify/hearts-weekly", "onboard/hearts-on-demand"}


def test_a_server_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    root, port = tmp_path / "ws", free_port()
    create_workspace(root, "tiny")
    told = cli(root, "serve", code=1, env=environment(PREFECT_API_URL=f"http://127.0.0.1:{port}/api"))
    assert f"Prefect's server at 127.0.0.1:{port} does not answer" in told
    assert "Traceback" not in told


def _deployed(server: Server, since: set[str]) -> dict[str, dict[str, Any]]:
    """Return what the server knows of new deployments, by name."""
    request = urllib.request.Request(
        f"{server.url}/deployments/filter", data=b"{}", headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return {d["name"]: d for d in json.load(answer) if d["updated"] not in since}


@pytest.mark.slow
def test_the_serving_process_registers_its_flows_and_ends_clean(
    tmp_path: Path, standing: Server, served: dict[str, str]
) -> None:
    root = tmp_path / "ws"
    create_workspace(root, "tiny")
    with subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "serve", "--every", "6"],
        cwd=root, env=environment(**served), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            before = {d["updated"] for d in _deployed(standing, set()).values()}
            assert wait_for(lambda: len(_deployed(standing, before)) == 3 or process.poll() is not None, 200)
            found = _deployed(standing, before)
            assert {name: d["global_concurrency_limit"]["limit"] for name, d in found.items()} == dict.fromkeys(
                ("monthly", "weekly", "on-demand"), 1
            )
            assert found["monthly"]["schedules"][0]["schedule"]["interval"] == 6 * 3600
            assert not any(d["paused"] for d in found.values())
            assert "served already" in cli(root, "serve", code=1, env=environment(**served))
            create_workspace(tmp_path / "other", "tiny")
            taken = cli(tmp_path / "other", "serve", code=2, env=environment(**served))
            assert "has regenerate/monthly of another workspace" in taken
            assert "--name" in taken
            everyone = family(psutil.Process(process.pid))
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
            assert wait_for(lambda: all(map(is_dead, everyone)), 15)
        finally:
            process.kill()
    assert "Traceback" not in said
    assert "Warning" not in said
    assert process.returncode == 0
    assert all(d["paused"] for d in _deployed(standing, before).values()), "nothing is due that nobody would run"
