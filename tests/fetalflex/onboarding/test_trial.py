"""The trial: cases of every device and description, de-identified as ingest does, before and after side by side."""

from pathlib import Path

import numpy as np
import pytest

from fetalflex.dicom.sandbox import Sandbox
from fetalflex.onboarding.probe import probe_files
from fetalflex.onboarding.trial import Trial, choose_cases, link_cases, run_trial
from tests.fetalflex.dicom.samples import CENTER, INGEST, KEY, write_center
from tests.fetalflex.onboarding.rows import image


def test_every_device_and_word_is_chosen_before_one_is_chosen_twice() -> None:
    rows = [image(f"a{i}") for i in range(50)] + [image("b", device="Philips EPIQ 7"), image("c", word="femur")]
    chosen = choose_cases(rows, 4)
    assert {"b", "c"} <= {r["name"] for r in chosen}
    assert len(chosen) == 4


def test_the_choice_depends_on_no_order_and_takes_what_there_is() -> None:
    rows = [image(f"a{i}") for i in range(9)]
    assert choose_cases(rows, 3) == choose_cases(rows[::-1], 3)
    assert len(choose_cases(rows, 99)) == 9
    assert choose_cases([{"kind": "rejected", "name": "x"}], 3) == []


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    place = tmp_path_factory.mktemp("trial")
    staged = write_center(place / "staged", 4)
    names = sorted(p.relative_to(staged).as_posix() for p in staged.rglob("*") if p.is_file())
    with Sandbox(key=KEY) as sandbox:
        rows = list(probe_files(sandbox, staged, names, "made"))
    chosen = choose_cases(rows, 3)
    link_cases(staged, place / "trial", chosen, rows)
    return run_trial(place / "trial", "made", CENTER, INGEST, KEY, chosen)


def test_frames_and_annotations_are_those_of_ingest(trial: Trial) -> None:
    assert trial.files == 3
    assert len(trial.frames) == 3
    assert trial.annotations in (1, 2)  # the even ones of four images have one
    assert {f["plane"] for f in trial.frames} == {"brain"}
    assert all(0 < f["sector"] <= 100 for f in trial.frames)
    assert trial.stored_bytes > 0


def test_each_case_is_shown_before_and_after(trial: Trial) -> None:
    for preview in trial.previews:
        assert preview.before is not None
        assert preview.after is not None
        assert preview.before.shape == preview.after.shape
        assert not np.any(preview.after[:10])  # above the region
        assert preview.plane == "brain"


def test_changes_name_attributes_with_values_before_and_after(trial: Trial) -> None:
    changes = {c["name"]: c for c in trial.previews[0].changes}
    assert changes["PatientID"]["action"] == "replaced"
    assert changes["PatientID"]["before"].startswith("P")
    assert len(changes["PatientID"]["after"]) == 32
    assert changes["Rows"]["action"] == "kept"


def test_a_trial_folder_holds_numbers_only(tmp_path: Path) -> None:
    (tmp_path / "JOHN SMITH.dcm").write_bytes(b"x")
    link_cases(tmp_path, tmp_path / "trial", [image("JOHN SMITH.dcm")], [])
    assert [p.name for p in (tmp_path / "trial").iterdir()] == ["0000.dcm"]
    assert (tmp_path / "trial").stat().st_mode & 0o777 == 0o700
