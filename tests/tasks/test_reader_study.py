import json
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from fetalflex.artifacts import picture
from fetalflex.dataset import Cases
from tasks import reader_study


@pytest.fixture
def root(tmp_path: Path, tiny_cases: Cases, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [
        {"image_id": f"image-{k}", "kind": kind, "plane": "transventricular", "center": "center-a",
         "image": picture(tiny_cases.images[k], "x")}
        for k, kind in enumerate(("normal", "normal", "abnormal", "pair-normal"))
    ]  # fmt: skip
    monkeypatch.setattr(reader_study, "load_params", lambda _: SimpleNamespace(data=SimpleNamespace(image_size=32)))
    monkeypatch.setattr(reader_study, "read_cases", lambda *_: tiny_cases)
    monkeypatch.setattr(reader_study, "read_synthetic", lambda _: pl.DataFrame(rows))
    return tmp_path


def test_real_images_are_those_of_held_out_patients_alone(root: Path, tiny_cases: Cases) -> None:
    real = [c for c in reader_study.candidates(root) if c.truth == "real"]
    assert [c.origin for c in real] == list(tiny_cases.ids[tiny_cases.groups == "test"])
    more = [c for c in reader_study.candidates(root, ("test", "judge")) if c.truth == "real"]
    assert len(more) == int((tiny_cases.groups != "train").sum())


def test_synthetic_images_are_normal_ones_that_the_gate_accepts(root: Path) -> None:
    assert [c.origin for c in reader_study.candidates(root) if c.truth == "synthetic"] == ["image-0", "image-1"]
    (root / "reports").mkdir()
    verdict = {"images": {"accepted": ["image-1"], "rejected": [{"image_id": "image-0", "reason": "dice"}]}}
    (root / "reports" / "gate.json").write_text(json.dumps(verdict))
    assert [c.origin for c in reader_study.candidates(root) if c.truth == "synthetic"] == ["image-1"]
