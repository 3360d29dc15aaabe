"""The deployments: those of `fetalflex serve` and those of prefect.yaml are the same three flows, one at a time."""

from pathlib import Path

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint

from fetalflex.errors import UsageError
from flows.serve import Schedules, deployments

ROOT = Path(__file__).parents[2]


def _lines(found: list) -> dict[str, list[str | None]]:
    return {f"{d.flow_name}/{d.name}": [getattr(s.schedule, "cron", None) for s in d.schedules or []] for d in found}


def test_the_default_is_monthly_weekly_and_on_demand() -> None:
    found = deployments(Schedules(), {"repository_url": ""})
    assert _lines(found) == {
        "regenerate/monthly": ["0 3 1 * *"], "verify/weekly": ["0 5 * * 0"], "onboard/on-demand": [],
    }  # fmt: skip
    assert {d.concurrency_limit for d in found} == {1}
    assert {d.concurrency_options.collision_strategy.value for d in found} == {"ENQUEUE"}


def test_prefect_yaml_names_the_same_deployments() -> None:
    written = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    served = deployments(Schedules(), {})
    assert {f"{load_flow_from_entrypoint(d['entrypoint']).name}/{d['name']}" for d in written} == set(_lines(served))
    assert [d["entrypoint"] for d in written] == [d.entrypoint for d in served]
    for d in written:
        flow = load_flow_from_entrypoint(d["entrypoint"])
        assert set(d.get("parameters", {})) <= set(flow.parameters.properties)
        assert [s["cron"] for s in d.get("schedules", [])] == _lines(served)[f"{flow.name}/{d['name']}"]


def test_an_interval_takes_the_place_of_the_cron_line() -> None:
    (schedule,) = deployments(Schedules(every_hours=6.0), {})[0].schedules
    assert schedule.schedule.interval.total_seconds() == 6 * 3600


def test_a_cron_line_that_is_none_is_one_line() -> None:
    with pytest.raises(UsageError, match="a schedule cannot be read"):
        deployments(Schedules(regenerate="every month"), {})
