"""The walk, on a chain that it has never heard of, with a real Prefect server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetalflex.errors import UsageError
from flows.pipeline import make_plan, run_pipeline
from tasks import versioning
from tasks.server import Server, prefect_settings
from tests.tasks.toy import make_toy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def server(standing: Server) -> Iterator[Server]:
    with prefect_settings(standing):
        yield standing


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy in which everything has run once."""
    root = make_toy(tmp_path_factory.mktemp("toy"))
    assert set(_states(root).values()) == {"Completed"}
    return root


@pytest.fixture
def toy(finished: Path, tmp_path: Path) -> Path:
    """A copy of it: nothing in it names the place where it ran."""
    return Path(shutil.copytree(finished, tmp_path / "toy", symlinks=True))


def _states(root: Path) -> dict[str, str]:
    return {o.name: o.state for o in run_pipeline(root, make_plan(root))}


def test_everything_runs_once_then_is_cached(toy: Path) -> None:
    assert set(_states(toy).values()) == {"Cached"}
    assert versioning.status(toy) == {}


def test_a_changed_center_runs_its_own_ingest_and_what_follows(toy: Path) -> None:
    (toy / "incoming" / "a.manifest").write_text("changed\n")
    assert _states(toy) == {"ingest@a": "Completed", "ingest@b": "Cached", "masks": "Completed", "gate": "Completed"}


def test_what_follows_an_unchanged_output_is_cached(toy: Path) -> None:
    text = (toy / "dvc.yaml").read_text()
    (toy / "dvc.yaml").write_text(text.replace("cat data/frames/*/x >", "cat  data/frames/*/x >"))
    assert _states(toy) == {"ingest@a": "Cached", "ingest@b": "Cached", "masks": "Completed", "gate": "Cached"}


def test_from_a_stage_on_all_run_again_though_nothing_changed(toy: Path) -> None:

    def again(start: str) -> dict[str, str]:
        return {o.name: o.state for o in run_pipeline(toy, make_plan(toy, start))}

    assert again("masks") == {"ingest@a": "Cached", "ingest@b": "Cached", "masks": "Completed", "gate": "Completed"}
    assert set(again("ingest").values()) == {"Completed"}
    with pytest.raises(UsageError, match="no such stage; the stages are ingest@a"):
        make_plan(toy, "mask")


def test_after_a_plain_repro_nothing_is_left_to_do(tmp_path: Path) -> None:
    toy = make_toy(tmp_path)
    for stage in versioning.graph(toy):
        versioning.repro(toy, stage)
    assert set(_states(toy).values()) == {"Cached"}


def test_a_failed_stage_stops_only_what_needs_it(toy: Path) -> None:
    (toy / "broken").touch()
    (toy / "incoming" / "a.manifest").write_text("changed\n")
    assert _states(toy) == {"ingest@a": "Completed", "ingest@b": "Cached", "masks": "Completed", "gate": "Failed"}
    (toy / "broken").unlink()
    assert _states(toy) == {"ingest@a": "Cached", "ingest@b": "Cached", "masks": "Cached", "gate": "Completed"}


def test_an_ingest_without_raw_files_is_never_called(toy: Path) -> None:
    """A clone has manifests and can restore frames, but has no raw files: a stale ingest must not delete its frames."""
    shutil.rmtree(toy / "incoming" / "a")
    chain = (toy / "dvc.yaml").read_text().replace("cp incoming/", "cp  incoming/")
    (toy / "dvc.yaml").write_text(chain)
    outcomes = {o.name: o for o in run_pipeline(toy, make_plan(toy))}
    assert outcomes["ingest@a"].state == "Cached"
    assert "raw files are absent" in outcomes["ingest@a"].message
    assert outcomes["ingest@b"].state == "Completed"
    assert (toy / "data/frames/a/x").read_text() == "a\n"


def test_lost_frames_without_raw_files_come_back_from_the_cache(toy: Path) -> None:
    shutil.rmtree(toy / "incoming" / "a")
    shutil.rmtree(toy / "data")
    assert _states(toy)["ingest@a"] == "Cached"
    assert (toy / "data/frames/a/x").read_text() == "a\n"


def test_states_are_task_runs_on_the_server(toy: Path, server: Server) -> None:
    import json
    import urllib.request
    from datetime import UTC, datetime

    began = datetime.now(UTC).isoformat()
    (toy / "incoming" / "a.manifest").write_text("changed\n")
    _states(toy)
    _states(toy)
    since = json.dumps({"task_runs": {"start_time": {"after_": began}}}).encode()
    request = urllib.request.Request(
        f"{server.url}/task_runs/filter", data=since, headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        runs = json.load(answer)
    seen = {(run["name"], run["state_name"]) for run in runs}
    assert ("masks", "Completed") in seen
    assert ("masks", "Cached") in seen
