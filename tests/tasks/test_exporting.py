from pathlib import Path

import numpy as np
import pytest

from fetalflex.artifacts import write_json
from fetalflex.params import Center
from fetalflex.synthesis.card import Origin
from tasks import exporting
from tests.fetalflex import tiny


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cases = tiny.cases(8)
    cases.groups[:] = np.where(np.arange(8) < 6, "train", "test")
    monkeypatch.setattr(exporting, "load_params", lambda root: None)
    monkeypatch.setattr(exporting, "read_cases", lambda root, params: cases)
    monkeypatch.setattr(
        exporting, "load_center", lambda root, name: Center(title=f"The {name} one", licence="CC BY 4.0")
    )
    return tmp_path


def test_layouts_are_those_of_training_patients_alone(workspace: Path) -> None:
    assert [case for case, _ in exporting.training_layouts(workspace)] == [f"case{i}" for i in range(6)]


def test_centers_are_counted_with_their_licences(workspace: Path) -> None:
    layouts, origins, figures = exporting.training_facts(workspace)
    assert len(layouts) == 6
    assert origins == (Origin("The far one", "CC BY 4.0", 3), Origin("The near one", "CC BY 4.0", 3))
    assert figures == ()


def test_figures_are_those_of_the_report_and_name_their_encoder(workspace: Path) -> None:
    found = {"low": 0.1, "high": 0.3, "n": 5}
    write_json(
        workspace / "reports" / "quality.json",
        {
            "encoder": "inception",
            "fidelity": [{"name": "kid", "value": 0.2, "low": 0.1, "high": 0.3, "n_synthetic": 9}],
            "control": [{"structure": "head", "value": 0.2} | found, {"structure": "csp", "value": None} | found],
        },
    )
    _, _, figures = exporting.training_facts(workspace)
    assert [(f.name, f.value, f.n) for f in figures] == [
        ("kid (features: inception)", 0.2, 9), ("control: Dice, head", 0.2, 5),
    ]  # fmt: skip
