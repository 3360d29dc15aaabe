"""What an image for testing shows is named in the profile's words, and nowhere else."""

from pathlib import Path

import pytest

from fetalflex.errors import ParameterError
from fetalflex.ingest.bucket import ingest_bucket, scan
from fetalflex.params import Center, parse
from tests.fetalflex.dicom.samples import CENTER, INGEST, KEY, write_image

WORDS = {"mild-ventriculomegaly": "mild-ventriculomegaly", "hydracen": "hydranencephaly"}
SICK = CENTER.model_copy(update={"role": "test_only", "findings": WORDS})


def test_the_first_word_of_the_series_description_names_the_finding(tmp_path: Path) -> None:
    for seed, series in ((0, "Mild-Ventriculomegaly"), (2, "hydracenphay of Jane Doe"), (4, "something else")):
        write_image(tmp_path / f"{seed}.dcm", seed, series_description=series)
    inventory = scan(tmp_path, KEY)
    results = [ingest_bucket(inventory, k, 3, "made", SICK, INGEST, KEY) for k in range(3)]
    frames = {row["case_id"] for result in results for row in result.frames}
    findings = {row["case_id"]: row["finding"] for result in results for row in result.findings}
    assert len(frames) == 3
    assert sorted(findings.values()) == ["hydranencephaly", "mild-ventriculomegaly"]
    assert set(findings) < frames
    assert all("finding" not in row for result in results for row in result.frames)


def test_a_center_for_training_has_no_findings() -> None:
    profile = CENTER.model_dump(mode="json") | {"findings": WORDS}
    with pytest.raises(ParameterError, match="findings are for centers of the role test_only"):
        parse(profile, Center, "centers/made.yaml")
