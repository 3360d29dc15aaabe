import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fetalflex.artifacts import decode_png
from fetalflex.dicom.write import derive_uid, write_boxes, write_segmentation
from fetalflex.errors import NoUsableFramesError, ParameterError
from fetalflex.ingest.bucket import BucketResult, check_usable, ingest_bucket, scan
from fetalflex.params import Center
from fetalflex.tables import Annotations, Frames, Quarantine, write_shard
from tests.fetalflex.dicom.samples import CENTER, INGEST, KEY, head_mask, screen, write_center, write_image


def ingest(folder: Path, shards: int = 1) -> BucketResult:
    whole = BucketResult()
    inventory = scan(folder, KEY)
    for bucket in range(shards):
        part = ingest_bucket(inventory, bucket, shards, "made", CENTER, INGEST, KEY)
        for name in ("frames", "annotations", "quarantine"):
            getattr(whole, name).extend(getattr(part, name))
    return whole


def test_frames_and_annotations_obey_their_schemas_and_fit_each_other(tmp_path: Path) -> None:
    result = ingest(write_center(tmp_path / "made"))
    write_shard(tmp_path / "f", result.frames, Frames)
    write_shard(tmp_path / "a", result.annotations, Annotations)
    write_shard(tmp_path / "q", result.quarantine, Quarantine)
    assert (len(result.frames), len(result.annotations), result.quarantine) == (6, 3, [])
    by_case = {row["case_id"]: row for row in result.frames}
    for row in result.annotations:
        frame = by_case[row["case_id"]]
        mask = decode_png(row["mask"]["bytes"])
        assert mask.shape == (frame["height"], frame["width"])
        assert max(mask.shape) <= INGEST.max_side_px
        area = (mask > 127).sum() * frame["spacing_mm"] ** 2
        assert area == pytest.approx(head_mask().sum() * 0.2**2, rel=0.02)


def test_all_buckets_together_hold_every_file_once_and_one_new_file_changes_one(tmp_path: Path) -> None:
    folder = write_center(tmp_path / "made")
    assert sorted(r["case_id"] for r in ingest(folder, 3).frames) == sorted(
        r["case_id"] for r in ingest(folder, 1).frames
    )
    (folder / "notes.txt").write_text("none")
    before = [ingest_bucket(scan(folder, KEY), n, 3, "made", CENTER, INGEST, KEY) for n in range(3)]
    write_image(folder / "new.dcm", 99)
    after = [ingest_bucket(scan(folder, KEY), n, 3, "made", CENTER, INGEST, KEY) for n in range(3)]
    assert sum(b != a for b, a in zip(before, after, strict=True)) == 1
    assert sum(len(b.quarantine) for b in before) == 1


def test_names_and_order_of_files_change_nothing(tmp_path: Path) -> None:
    first = ingest(write_center(tmp_path / "one"))
    (tmp_path / "two" / "x").mkdir(parents=True)
    for number, path in enumerate(sorted((tmp_path / "one").rglob("*.*"), reverse=True)):
        shutil.copy(path, tmp_path / "two" / "x" / f"{number}")
    assert ingest(tmp_path / "two") == first


def test_bad_files_among_good_ones_cost_one_row_each(tmp_path: Path) -> None:
    folder = write_center(tmp_path / "made", 4)
    whole = (folder / "p0" / "im0.dcm").read_bytes()
    (folder / "cut.dcm").write_bytes(whole.replace(b"P0", b"P9")[:-9000])
    (folder / "readme.txt").write_text("no DICOM")
    (folder / "copy.dcm").write_bytes((folder / "p0" / "im1.dcm").read_bytes())
    write_image(folder / "dark.dcm", 50, pixels=np.zeros((120, 160), np.uint8))
    write_image(folder / "flat.dcm", 51, pixels=np.full((120, 160), 90, np.uint8))
    flow = np.repeat(screen(52)[..., None], 3, axis=2)
    flow[40:80, 60:120] = (220, 30, 30)
    write_image(folder / "flow.dcm", 52, pixels=flow)
    result = ingest(folder)
    # The truncated one shares its UID with a good one: one of the two stays, by content.
    reasons = sorted(r["reason"] for r in result.quarantine if r["reason"] not in ("truncated", "uid_conflict"))
    assert reasons == ["colour_doppler", "duplicate", "empty_image", "no_ultrasound_region", "not_dicom"]
    assert len(result.frames) >= 3


def test_a_truncated_file_does_not_disturb_the_others(tmp_path: Path) -> None:
    folder = write_center(tmp_path / "made", 4)
    write_image(tmp_path / "x.dcm", 70)
    (folder / "cut.dcm").write_bytes((tmp_path / "x.dcm").read_bytes()[:-9000])
    result = ingest(folder)
    assert (len(result.frames), [r["reason"] for r in result.quarantine]) == (4, ["truncated"])


def test_an_unknown_structure_is_reported_and_the_known_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_image(tmp_path / "made" / "a.dcm")
    masks = {"head": head_mask(), "csp": head_mask() & (np.arange(160) > 100)}
    write_segmentation(tmp_path / "made" / "a.seg", image, masks, "s")
    raw = (tmp_path / "made" / "a.seg").read_bytes()
    (tmp_path / "made" / "a.seg").write_bytes(raw.replace(b"74968005", b"74968006"))
    result = ingest(tmp_path / "made")
    assert [r["structure"] for r in result.annotations] == ["head"]
    assert [r["reason"] for r in result.quarantine] == ["unknown_structure"]
    assert "74968006" not in result.quarantine[0]["detail"]


def test_annotations_of_no_image_or_of_another_size_go_to_quarantine(tmp_path: Path) -> None:
    folder = write_center(tmp_path / "made", 2)
    absent = write_image(tmp_path / "absent.dcm", 40)
    write_segmentation(folder / "orphan.seg", absent, {"head": head_mask()}, "o")
    small = write_image(tmp_path / "small.dcm", 1, pixels=screen(shape=(90, 100)))
    write_segmentation(folder / "small.seg", small, {"head": head_mask((90, 100))}, "m")
    result = ingest(folder)
    assert sorted(r["reason"] for r in result.quarantine) == ["annotation_mismatch", "orphan_annotation"]
    assert len(result.annotations) == 1


def test_an_annotation_of_a_quarantined_image_is_reported_too(tmp_path: Path) -> None:
    image = write_image(tmp_path / "made" / "a.dcm", pixels=np.full((120, 160), 90, np.uint8))
    write_segmentation(tmp_path / "made" / "a.seg", image, {"head": head_mask()}, "s")
    reasons = sorted(r["reason"] for r in ingest(tmp_path / "made").quarantine)
    assert reasons == ["empty_image", "orphan_annotation"]


def test_boxes_stay_boxes_in_frame_pixels_and_are_numbered(tmp_path: Path) -> None:
    image = write_image(tmp_path / "made" / "a.dcm", region=(30, 20, 150, 110), spacing_mm=(0.2, 0.2))
    write_boxes(tmp_path / "made" / "a.sr", image, {"csp": [(40, 30, 60, 50), (70, 60, 90, 80)]}, "b")
    rows = ingest(tmp_path / "made").annotations
    assert [(r["number"], r["kind"], r["mask"]) for r in rows] == [(0, "box", None), (1, "box", None)]
    assert [(r["x0"], r["y0"], r["x1"], r["y1"]) for r in rows] == [(10, 10, 30, 30), (40, 40, 60, 60)]


def test_equal_pixels_of_two_patients_are_both_kept_and_say_so(tmp_path: Path) -> None:
    for seed in (0, 4):
        write_image(tmp_path / "made" / f"{seed}.dcm", seed, pixels=screen())
    one, two = ingest(tmp_path / "made").frames
    assert one["pixels"] == two["pixels"]
    assert one["patient"] != two["patient"]


def test_the_same_uid_with_other_content_is_a_conflict(tmp_path: Path) -> None:
    for seed in (0, 4):
        write_image(tmp_path / "made" / f"{seed}.dcm", seed, sop_uid=derive_uid("same"))
    result = ingest(tmp_path / "made")
    assert (len(result.frames), [r["reason"] for r in result.quarantine]) == (1, ["uid_conflict"])


def test_no_usable_frame_names_center_and_reasons(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "a.txt").write_text("x")
    table = pl.DataFrame(ingest(tmp_path / "made").quarantine)
    with pytest.raises(NoUsableFramesError, match=r"center made.*not_dicom 1"):
        check_usable("made", 0, table)
    check_usable("made", 1, table)


def test_a_profile_with_an_unknown_plane_is_refused(tmp_path: Path) -> None:
    inventory = scan(write_center(tmp_path / "made", 1), KEY)
    with pytest.raises(ParameterError, match="no plane"):
        ingest_bucket(inventory, 0, 1, "made", Center(title="", licence="", planes={"a": "b"}), INGEST, KEY)
