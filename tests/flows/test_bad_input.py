"""Bad input meets the whole run: one line that says what and what to do, or a row of quarantine; never a traceback."""

from pathlib import Path

import polars as pl
import pytest
import yaml

from tests.fetalflex.dicom.samples import head_mask, write_center, write_image, write_segmentation
from tests.flows.chain import cli, environment, run, states

pytestmark = [pytest.mark.chain, pytest.mark.slow, pytest.mark.timeout(1500)]
KEY = {"FETALFLEX_KEY": "0123456789abcdef0123456789abcdef"}


def _center(root: Path, name: str) -> Path:
    profile = {"title": "A hospital", "licence": "none", "planes": {"brain": "transventricular"}}
    (root / "centers" / f"{name}.yaml").write_text(yaml.safe_dump(profile))
    folder = root / "incoming" / name
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with two centers: `junk` sent nothing usable, `mixed` sent bad files among good ones."""
    root = tmp_path_factory.mktemp("bad") / "ws"
    cli(root.parent, "init", str(root), "--preset", "tiny")
    values = yaml.safe_load((root / "params.yaml").read_text())
    values["ingest"]["centers"] = {"junk": "frames", "mixed": "frames"}
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    (_center(root, "junk") / "readme.txt").write_text("no DICOM")
    mixed = write_center(_center(root, "mixed"), 4)
    (mixed / "notes.txt").write_text("no DICOM either")
    write_image(root / "x.dcm", 70)
    (mixed / "cut.dcm").write_bytes((root / "x.dcm").read_bytes()[:-9000])
    image = write_image(mixed / "marked.dcm", 80)
    write_segmentation(mixed / "marked.seg", image, {"head": head_mask()}, "s80")
    raw = (mixed / "marked.seg").read_bytes()
    code = b"69536005"  # SNOMED CT: head structure
    assert code in raw
    (mixed / "marked.seg").write_bytes(raw.replace(code, b"69536006"))
    return root


def test_a_center_without_usable_frames_fails_alone_and_bad_files_of_another_are_set_aside(
    hospitals: Path, served: dict[str, str]
) -> None:
    result = run(hospitals, code=1, env=environment(**KEY, **served))
    found = states(result)
    assert (found["ingest@junk"], found["ingest@mixed"], found["masks"]) == ("Failed", "Completed", "NotRun")
    (said,) = [s["message"] for s in result["stages"] if s["name"] == "ingest@junk"]
    assert "junk" in said
    assert "not_dicom" in said
    assert not (hospitals / "data/frames/junk").exists()
    reasons = pl.read_parquet(hospitals / "data/frames/mixed/quarantine.parquet")["reason"].to_list()
    assert sorted(reasons) == ["not_dicom", "truncated", "unknown_structure"]
    frames = pl.read_parquet(hospitals / "data/frames/mixed/frames-*.parquet")
    assert len(frames) == 5
    assert (hospitals / "reports/index.html").is_file(), "the page says what there is"


def test_as_text_the_failure_is_one_line(hospitals: Path, served: dict[str, str]) -> None:
    said = cli(hospitals, "run", code=1, env=environment(**KEY, **served))
    (line,) = [text for text in said.splitlines() if text.startswith("failed: ")]
    assert line.startswith("failed: ingest@junk: ")
