"""The chain is one thing under several names: stages, sections, modules, dependencies and outputs agree."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fetalflex.params import Params, preset_text, read_params
from tasks.fingerprints import import_closure, source_root
from tasks.stage import is_source, stage_names
from tasks.workspace import workspace_chain

ROOT = Path(__file__).parents[1]
STAGES = ["ingest", "masks", "prealign", "train", "sample", "score", "evaluate", "gate"]
CHAIN: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def _body(stage: str) -> dict[str, Any]:
    found: dict[str, Any] = CHAIN[stage].get("do", CHAIN[stage])
    return found


def _outputs(stage: str) -> list[str]:
    return list(_body(stage).get("outs", []))


def test_the_chain_has_the_eight_stages_in_order() -> None:
    assert stage_names(ROOT) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_one_name_for_stage_section_flow_task_and_command(stage: str) -> None:
    assert stage in Params.model_fields
    assert (ROOT / "flows" / f"{stage}.py").is_file()
    assert (ROOT / "tasks" / f"{stage}.py").is_file()
    assert _body(stage)["cmd"].split(" --")[0] == f"python -m flows.{stage}"


@pytest.mark.parametrize("stage", STAGES)
def test_every_import_of_a_stage_is_among_its_dependencies(stage: str) -> None:
    declared = [source_root() / d for d in _body(stage)["deps"] if is_source(d)]
    missing = [
        str(path.relative_to(source_root()))
        for path in import_closure(f"flows.{stage}")
        if not any(path == d or d in path.parents for d in declared)
    ]
    assert not missing


@pytest.mark.parametrize("stage", STAGES)
def test_no_dependency_on_code_that_the_stage_does_not_import(stage: str) -> None:
    closure = import_closure(f"flows.{stage}")
    needless = [
        d
        for d in _body(stage)["deps"]
        if is_source(d) and not any(source_root() / d == p or source_root() / d in p.parents for p in closure)
    ]
    assert not needless


def test_every_output_is_declared_once() -> None:
    outputs = [o for stage in STAGES for o in _outputs(stage)]
    assert len(outputs) == len(set(outputs))
    for one in outputs:
        assert not any(other != one and other.startswith(one + "/") for other in outputs)


def test_every_data_dependency_is_an_output_or_raw() -> None:
    outputs = [o for stage in STAGES for o in _outputs(stage)]
    for stage in STAGES:
        for dependency in _body(stage)["deps"]:
            if not is_source(dependency) and not dependency.startswith(("incoming/", "centers/")):
                assert any(o == dependency or o.startswith(dependency + "/") or "${" in o for o in outputs), dependency


def test_raw_files_are_no_dependency() -> None:
    raw = [d for stage in STAGES for d in _body(stage)["deps"] if d.startswith("incoming/")]
    assert raw == ["incoming/${key}.manifest"]


def test_sampling_depends_on_nothing_of_the_judge() -> None:
    assert not any("judge" in d for d in _body("sample")["deps"])
    assert any("judge" in d for d in _body("score")["deps"])


def test_no_training_stage_depends_on_test_only_frames() -> None:
    """`evaluate` alone reads them: what it trains is never given away, and images come from `sample`, before it."""
    assert [stage for stage in STAGES if any("test_only" in d for d in _body(stage)["deps"])] == ["evaluate"]


def test_the_checkout_holds_the_demo_preset() -> None:
    assert (ROOT / "params.yaml").read_text() == preset_text("demo")
    for path in (ROOT / "fetalflex" / "presets" / "centers").glob("phantom-*.yaml"):
        demo = ROOT / "centers" / path.name
        assert not demo.is_file() or demo.read_text() == path.read_text()


@pytest.mark.parametrize("preset", ["demo", "tiny", "cpu64", "small", "base", "sd"])
def test_presets_are_valid(preset: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(preset_text(preset))
    assert read_params(path).preset == preset


def test_a_workspace_depends_on_code_by_fingerprint_only() -> None:
    chain = yaml.safe_load(workspace_chain((ROOT / "dvc.yaml").read_text()))["stages"]
    assert list(chain) == STAGES
    for stage in STAGES:
        body = chain[stage].get("do", chain[stage])
        assert not any(is_source(d) for d in body["deps"])
        own = next(p["fingerprints.yaml"] for p in body["params"] if isinstance(p, dict))
        assert f"code.{stage}" in own
        assert (f"weights.{stage}" in own) == (stage in ("train", "score")), "those that read pretrained weights"
