"""No image of an abnormal set can reach training: not by the chain, not by its content, not by how images are made."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from fetalflex import tables
from fetalflex.anatomy.anomalies import apply_anomaly
from fetalflex.anatomy.statistics import fit_statistics
from fetalflex.artifacts import picture
from fetalflex.dataset import Cases
from fetalflex.errors import ArtifactError, LayoutError, ParameterError
from fetalflex.ingest.bucket import ingest_bucket, scan
from fetalflex.params import Params, Phantom, parse
from fetalflex.phantom import center as phantom_center
from fetalflex.rng import generator
from fetalflex.synthesis.dicom_out import Synthetic, write_synthetic
from tasks import prealign, train
from tasks.cases import read_cases
from tasks.incoming import check_centers
from tasks.ingest import CenterIngest
from tasks.stage import StageRun
from tests.fetalflex.anatomy.test_catalogue import phantom_layout
from tests.fetalflex.dicom.samples import CENTER, INGEST, KEY, write_image
from tests.fetalflex.test_planning import BRAINS

ROOT = Path(__file__).parents[2]
CHAIN: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
LEARNING = ("masks", "prealign", "train")
PROFILE = "title: A\nrole: {role}\nlicence: none\n"


def params(**centers: str) -> Params:
    return parse({"preset": "x", "data": {"image_size": 32}, "ingest": {"centers": centers}}, Params, "params.yaml")


# By the chain.


def _reads(stage: str) -> set[str]:
    """All that a stage reads, directly or through the stages that make it."""
    makers = {o: s for s in CHAIN if s != "ingest" for o in CHAIN[s]["outs"]}
    found: set[str] = set()
    todo = [d for d in CHAIN[stage]["deps"] if not d.startswith(("fetalflex", "tasks", "flows"))]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += [d for d in CHAIN.get(makers.get(path, ""), {}).get("deps", []) if d.startswith(("data", "models"))]
    return found


@pytest.mark.parametrize("stage", LEARNING)
def test_no_training_stage_reads_test_only_or_synthetic_images_at_any_remove(stage: str) -> None:
    assert _reads(stage) <= {"data/frames", "data/masks", "models/aligner"}


def test_frames_of_a_test_only_center_have_a_folder_of_their_own() -> None:
    assert CHAIN["ingest"]["do"]["outs"] == ["data/${item}/${key}"]
    with pytest.raises(ParameterError, match=r"centers\.a"):
        params(a="synthetic")


# By content.


def _center(root: Path, folder: str, name: str, role: str) -> str:
    case = f"{name:x<16}"
    row = {
        "case_id": case, "center": name, "patient": f"{name:p<16}", "plane": "brain", "age_weeks": None,
        "image": picture(np.full((32, 32), 90, np.uint8), "x"), "spacing_mm": None, "height": 32, "width": 32,
        "device": "d", "pixels": "0" * 64, "phash": "0" * 16, "level": 60.0, "marks": "[]",
    }  # fmt: skip
    place = root / "data" / folder / name
    place.mkdir(parents=True)
    tables.write_shard(place / "frames-00.parquet", [row], tables.Frames)
    (root / "centers").mkdir(exist_ok=True)
    (root / "centers" / f"{name}.yaml").write_text(PROFILE.format(role=role))
    return case


def _split(root: Path, *cases: str) -> None:
    rows = [
        {"case_id": c, "center": c[:1], "patient": "p", "cluster": c, "tied_by": None, "group": "train",
         "moved_from": None}
        for c in cases
    ]  # fmt: skip
    (root / "data/masks").mkdir(parents=True, exist_ok=True)
    tables.write_shard(root / "data/masks/splits.parquet", rows, tables.Splits)
    tables.write_shard(root / "data/masks/masks-00.parquet", tables.Masks.create_empty(), tables.Masks)


def test_the_training_cases_hold_nothing_of_a_test_only_center(tmp_path: Path) -> None:
    normal = _center(tmp_path, "frames", "normal", "normal")
    abnormal = _center(tmp_path, "test_only", "sick", "test_only")
    _split(tmp_path, normal)
    both = params(normal="frames", sick="test_only")
    assert read_cases(tmp_path, both).of_group("train").ids.tolist() == [normal]
    _split(tmp_path, normal, abnormal)
    with pytest.raises(ArtifactError, match="1 cases of the splits have no frame"):
        read_cases(tmp_path, both)


def test_a_mis_set_role_is_refused_before_the_run_in_the_stage_and_by_every_reader(tmp_path: Path) -> None:
    case = _center(tmp_path, "frames", "sick", "test_only")
    _split(tmp_path, case)
    wrong = params(sick="frames")
    said = "ingest.centers.sick: found 'frames', but centers/sick.yaml has the role 'test_only'"
    with pytest.raises(ParameterError, match=said):
        check_centers(tmp_path, wrong)
    run = StageRun("ingest@sick", tmp_path, tmp_path / "work", wrong, "key", (), ("data/frames/sick",))
    with pytest.raises(ParameterError, match=said):
        CenterIngest(run)
    with pytest.raises(ParameterError, match=said):
        read_cases(tmp_path, wrong)


class _LearntFromError(Exception):
    """Stops a training where it begins, with its cases."""

    def __init__(self, cases: Cases) -> None:
        super().__init__("training")
        self.cases = cases


@pytest.mark.parametrize("stage", ["train", "prealign"])
def test_a_training_sees_the_group_train_alone(stage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    groups = np.array(["train", "judge", "test", "train"] * 2)
    monkeypatch.setattr(f"tasks.{stage}.read_cases", lambda *_: replace(BRAINS, groups=groups))

    def learn(cases: Cases, *_: object) -> None:
        raise _LearntFromError(cases)

    monkeypatch.setattr(f"tasks.{stage}.{'train_generator' if stage == 'train' else 'train_aligner'}", learn)
    monkeypatch.setattr(train, "Aligner", SimpleNamespace(load=lambda _: None))
    run = StageRun(stage, tmp_path, tmp_path, params(a="frames"), "key", (), ())
    with pytest.raises(_LearntFromError) as caught:
        {"train": train.train_model, "prealign": prealign.align}[stage](run, None)  # type: ignore[operator]
    assert set(caught.value.cases.groups) == {"train"}


# By construction.


def test_a_synthetic_shard_is_no_frame_whatever_it_is_called(tmp_path: Path) -> None:
    _center(tmp_path, "frames", "normal", "normal")
    grey = picture(np.full((32, 32), 90, np.uint8), "x")
    layout = phantom_layout("transventricular").to_json()
    blank = dict.fromkeys(tables.Synthetic.create_empty().columns)
    row = blank | {
        "image_id": "i" * 16, "image": grey, "coarse": grey, "kind": "abnormal", "plane": "brain", "center": "normal",
        "age_derived": False, "anomaly": "ventriculomegaly", "severity": 14.0, "severity_unit": "mm",
        "layout_source": "varied", "layout": layout, "layout_adapted": layout, "source_case": "c", "seed": 1,
        "evaluations": 12,
    }  # fmt: skip
    tables.write_shard(tmp_path / "data/frames/normal/frames-01.parquet", [row], tables.Synthetic)
    _split(tmp_path, "i" * 16)
    with pytest.raises(ArtifactError, match="not a shard of Frames"):
        read_cases(tmp_path, params(normal="frames"))


def test_a_synthetic_image_written_as_dicom_is_set_aside_on_its_way_back(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_image(raw / "scan.dcm", 0)
    layout = apply_anomaly(phantom_layout("transventricular"), "ventriculomegaly", 14.0, generator(1))
    pixels = np.random.default_rng(1).integers(0, 255, (128, 128), dtype=np.uint8)
    write_synthetic(raw, "made", Synthetic(pixels, layout, 0, ("seed", "model")))
    result = ingest_bucket(scan(raw, KEY), 0, 1, "made", CENTER, INGEST, KEY)
    assert len(result.frames) == 1
    assert "synthetic" in {row["reason"] for row in result.quarantine}


def test_an_embedded_center_draws_normal_scenes_and_cannot_be_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []
    draw = phantom_center.make_scene

    def noted(plane: str, weeks: float, rng: np.random.Generator, *anomaly: object, **more: object) -> object:
        asked.append((anomaly, more))
        return draw(plane, weeks, rng)

    monkeypatch.setattr(phantom_center, "make_scene", noted)
    list(phantom_center.write_center(tmp_path, Phantom(device="curved-a", patients=1), "north"))
    assert asked
    assert all(call == ((), {}) for call in asked)
    with pytest.raises(ValidationError, match="Extra inputs"):
        Phantom(device="curved-a", patients=1, anomaly="ventriculomegaly")  # type: ignore[call-arg]


def test_the_model_of_normal_layouts_refuses_an_abnormal_one() -> None:
    layouts = [phantom_layout("transventricular", 24.0, seed) for seed in range(3)]
    for name, severity in (("ventriculomegaly", 14.0), ("absent-csp", 1.0)):
        with pytest.raises(LayoutError, match="abnormal"):
            fit_statistics([*layouts, apply_anomaly(layouts[0], name, severity, generator(1))])
