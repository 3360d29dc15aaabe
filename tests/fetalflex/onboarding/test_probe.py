"""The census: counted in our own words, whatever the headers hold; bad files are rows, too."""

from pathlib import Path
from typing import Any

import pytest

from fetalflex.dicom.sandbox import Sandbox
from fetalflex.onboarding.probe import probe_files, take_census, unmatched_texts
from tests.fetalflex.dicom.samples import KEY, write_center, write_image
from tests.fetalflex.onboarding.rows import image

EVIL = "name: [inject <script>alert(1)</script> ../../x"


def _probe(folder: Path) -> list[dict[str, Any]]:
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    with Sandbox(key=KEY) as sandbox:
        return list(probe_files(sandbox, folder, names, "made"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = write_center(tmp_path_factory.mktemp("probe") / "c", 4)
    write_image(folder / "evil.dcm", 8, study_description=EVIL, manufacturer=EVIL, model=EVIL)
    (folder / "note.txt").write_text("hello")
    (folder / "cut.dcm").write_bytes((folder / "evil.dcm").read_bytes()[:400])
    return _probe(folder)


def test_every_file_is_one_row_in_order(rows: list[dict[str, Any]]) -> None:
    assert [r["name"] for r in rows] == sorted(r["name"] for r in rows)
    assert {r["kind"] for r in rows} == {"image", "annotation", "rejected"}
    census = take_census(rows)
    assert (census.files, census.images, census.annotations) == (9, 5, 2)
    assert census.reasons["not_dicom"] == 1
    assert sum(census.reasons.values()) == 2
    assert census.with_spacing == 4
    assert census.patients == 3
    assert census.words == {"brain": 4}
    assert census.unmatched == 1


def test_nothing_of_a_header_is_in_a_row_but_the_text_for_the_private_page(rows: list[dict[str, Any]]) -> None:
    said = repr([{k: v for k, v in r.items() if k not in ("text", "name")} for r in rows])
    for part in ("inject", "script", "P0", "1.2.826", "2.25."):
        assert part not in said
    assert any("inject" in text for text, _ in unmatched_texts(rows))


def test_annotations_refer_to_their_images_by_keyed_hash(rows: list[dict[str, Any]]) -> None:
    uids = {r["uid"] for r in rows if r["kind"] == "image"}
    assert all(set(r["refers"]) <= uids and r["refers"] for r in rows if r["kind"] == "annotation")


def test_equal_pixels_under_two_patients_have_one_hash(tmp_path: Path) -> None:
    write_image(tmp_path / "a.dcm", 1, patient_id="A")
    write_image(tmp_path / "b.dcm", 1, patient_id="B", study_description="longer than the other one")
    one, two = _probe(tmp_path)
    assert one["pixels"] == two["pixels"]
    assert one["patient"] != two["patient"]


def test_a_census_of_nothing_is_zero() -> None:
    assert take_census([]).images == 0


def test_counts_stand_in_order_of_size() -> None:
    census = take_census([image("a"), image("b", device="unknown"), image("c", frames=40, device="unknown")])
    assert list(census.tables["Device (by our vocabulary)"].items()) == [("unknown", 2), ("GE Voluson E10", 1)]
    assert census.tables["Frames"] == {"1 (still)": 2, "31 to 200": 1}
    assert census.clips == 1
