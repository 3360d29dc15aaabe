from pathlib import Path

import numpy as np
import pytest

from fetalflex.dataset import Cases
from fetalflex.errors import UsageError
from tasks import studio
from tasks.studio import WorkspaceCases


@pytest.fixture
def found(tmp_path: Path, tiny_cases: Cases, monkeypatch: pytest.MonkeyPatch) -> WorkspaceCases:
    monkeypatch.setattr(studio, "load_params", lambda _: None)
    monkeypatch.setattr(studio, "read_cases", lambda *_: tiny_cases)
    return WorkspaceCases(tmp_path)


def test_only_cases_of_the_training_group_are_listed_and_opened(found: WorkspaceCases, tiny_cases: Cases) -> None:
    listed = {c.id for c in found.listed()}
    assert listed == set(tiny_cases.ids[tiny_cases.groups == "train"])
    assert found.planes() == ("transventricular",)
    held_out = str(tiny_cases.ids[tiny_cases.groups == "test"][0])
    with pytest.raises(UsageError, match="no such case"):
        found.open(held_out)


def test_a_case_comes_with_its_own_layout_and_scale(found: WorkspaceCases, tiny_cases: Cases) -> None:
    picture, layout = found.open(str(tiny_cases.ids[0]))
    assert np.array_equal(picture.pixels, tiny_cases.images[0])
    assert picture.spacing_mm == 2.5
    assert (layout.unit, layout.extent) == ("mm", 2.5 * 32)
    assert found.open(str(tiny_cases.ids[1]))[0].spacing_mm is None


def test_centers_and_planes_share_the_list(found: WorkspaceCases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studio, "MOST", 4)
    centers = [c.center for c in found.listed()]
    assert centers.count("center-a") == centers.count("center-b") == 2
