"""`make run` itself, in a temporary clone at the smallest size; then a second run and a change."""

import json
import shutil
from pathlib import Path

import pytest

from fetalflex.model.loop import training_precision
from tests.flows.chain import cli, differing, dvc, environment, git, hashes, remake, run, states

pytestmark = [pytest.mark.chain, pytest.mark.slow, pytest.mark.timeout(1500)]


def test_every_stage_leaves_its_outputs_and_the_page_is_whole(clone: Path) -> None:
    for path in ("data/frames/phantom-tiny-a", "data/masks", "models/generator", "data/synthetic", "reports/gate.json"):
        assert (clone / path).exists(), path
    page = (clone / "reports/index.html").read_text()
    for part in ("phantom-tiny-a", "Counterfactual pairs", "The gate"):
        assert part in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_second_run_changes_nothing_and_everything_is_cached(clone: Path, served: dict[str, str]) -> None:
    before = hashes(clone)
    result = run(clone, env=environment(clone, **served))
    assert result["ok"]
    assert set(states(result).values()) == {"Cached"}
    assert hashes(clone) == before
    assert json.loads(dvc(clone, "status", "--json")) == {}


def test_git_sees_no_output(clone: Path) -> None:
    seen = {line[3:].split("/")[0] for line in git(clone, "status", "--porcelain", "-uall").splitlines()}
    assert not seen & {"data", "models", "reports", "incoming", "dvc.lock", "fingerprints.yaml", ".work", ".fetalflex"}


def test_no_identifier_of_the_raw_files_is_in_any_output(clone: Path) -> None:
    from pydicom import dcmread

    planted = set()
    for path in sorted((clone / "incoming/phantom-tiny-a").rglob("*"))[:10]:
        if path.is_file():
            data = dcmread(path, stop_before_pixels=True)
            planted |= {str(data.PatientName).encode(), str(data.PatientID).encode(), data.SOPInstanceUID.encode()}
    outputs = [p for f in ("data", "models", "reports") for p in (clone / f).rglob("*") if p.is_file()]
    assert len(outputs) > 20
    for path in outputs:
        content = path.read_bytes()
        assert not [p for p in planted if p in content], path


def test_status_names_the_changed_center_and_writes_nothing(clone: Path) -> None:
    victim = next(p for p in sorted((clone / "incoming/phantom-tiny-b").rglob("*")) if p.is_file())
    content = victim.read_bytes()
    before = {p: p.stat().st_mtime_ns for p in clone.glob("*") if p.is_file()}
    victim.write_bytes(content + b"\0\0")
    try:
        found = json.loads(cli(clone, "status", "--json", env=environment(clone)))
    finally:
        victim.write_bytes(content)
    assert not found["clean"]
    assert found["stages"]["ingest@phantom-tiny-b"] == ["raw files of phantom-tiny-b changed"]
    assert found["stages"]["ingest@phantom-tiny-a"] == []
    assert "follows from ingest@phantom-tiny-b" in found["stages"]["masks"][0]
    assert {p: p.stat().st_mtime_ns for p in clone.glob("*") if p.is_file()} == before


def test_mlflow_holds_runs_curves_and_the_generator(clone: Path) -> None:
    import sqlite3

    with sqlite3.connect(clone / ".fetalflex" / "mlflow.db") as database:
        runs = dict(
            database.execute("select t.value, r.status from tags t join runs r using (run_uuid) where t.key='stage'")
        )
        steps = database.execute("select count(*) from metrics where key='loss'").fetchone()[0]
        versions = database.execute("select count(*) from model_versions").fetchone()[0]
        inputs = database.execute("select count(*) from inputs").fetchone()[0]
        precisions = database.execute("select value from tags where key='train.precision'").fetchall()
    database.close()
    assert {"pipeline", "prealign", "train", "score", "evaluate"} <= set(runs)
    assert set(runs.values()) == {"FINISHED"}
    assert steps >= 16
    assert versions == 1
    assert inputs >= 2
    assert precisions == [(training_precision("auto", "cpu"),)], "what `auto` has meant on this machine"


def test_sampling_never_opens_the_judge(clone: Path, served: dict[str, str]) -> None:
    shutil.move(clone / "models/judge", clone / "hidden-judge")
    try:
        remake(clone, "sample", environment(clone, **served))
    finally:
        shutil.move(clone / "hidden-judge", clone / "models/judge")
    assert differing(clone, "sample") == [], "the same bytes without the judge"
    assert json.loads(dvc(clone, "status", "--json")) == {}


def test_a_second_run_beside_the_first_is_refused_in_one_line(clone: Path) -> None:
    from tasks.process import exclusive

    with exclusive(clone / ".fetalflex" / "run.lock", "held"):
        said = cli(clone, "run", code=1, env=environment(clone))
    assert said.strip().splitlines() == [
        "fetalflex: error: another run is at work in this workspace: wait for it to end, or stop it"
    ]
