"""What a center's profile says is what ingest does: stills, annotations, spacing, planes; what is set aside."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageDraw
from pydicom import Dataset, dcmread, dcmwrite

from fetalflex.artifacts import decode_png
from fetalflex.dataset import load_cases
from fetalflex.dicom.write import write_boxes, write_segmentation
from fetalflex.ingest.bucket import BucketResult, ingest_bucket, scan
from fetalflex.params import Center, Clips
from fetalflex.tables import Frames, Masks
from tests.fetalflex.dicom.samples import CENTER, INGEST, KEY, head_mask, screen, write_image
from tests.fetalflex.ingest.pictures import head


def _ingest(folder: Path, **profile: Any) -> BucketResult:
    center = Center.model_validate(CENTER.model_dump() | profile)
    return ingest_bucket(scan(folder, KEY), 0, 1, "made", center, INGEST, KEY)


def _reasons(result: BucketResult) -> list[str]:
    return sorted(row["reason"] for row in result.quarantine)


def _clip(path: Path, frames: list[np.ndarray]) -> None:
    """Write a clip of grey or RGB frames."""
    write_image(path, 7, pixels=frames[0])
    data = dcmread(path)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.3.1"
    data.NumberOfFrames = len(frames)
    data.PixelData = b"".join(frame.tobytes() for frame in frames)
    dcmwrite(path, data)


def test_even_stills_are_as_many_as_the_profile_says(tmp_path: Path) -> None:
    _clip(tmp_path / "made" / "clip.dcm", [screen(seed) for seed in range(12)])
    assert len(_ingest(tmp_path / "made").frames) == 2
    assert len(_ingest(tmp_path / "made", clips=Clips(frames=5)).frames) == 5


def _shade(level: int) -> np.ndarray:
    return (screen(1) * (level / 100)).astype(np.uint8)


def test_distinct_stills_show_every_scene_of_a_clip(tmp_path: Path) -> None:
    levels = [100] * 9 + [60] * 2 + [30] * 1
    _clip(tmp_path / "made" / "clip.dcm", [_shade(level) for level in levels])
    rows = _ingest(tmp_path / "made", clips=Clips(frames=3, rule="distinct")).frames
    assert len({round(row["level"] / 12) for row in rows}) == 3


def test_distinct_stills_leave_flow_out_where_there_is_tissue(tmp_path: Path) -> None:
    tissue = [np.repeat(_shade(level)[..., None], 3, axis=2) for level in (100, 60, 100, 100)]
    flow = [frame.copy() for frame in tissue]
    for i, frame in enumerate(flow):
        frame[50:80, 60 + 10 * i : 110 + 10 * i] = (220, 30, 30)
    _clip(tmp_path / "made" / "clip.dcm", [*flow, *tissue])
    result = _ingest(tmp_path / "made", clips=Clips(frames=2, rule="distinct"))
    assert (len(result.frames), result.quarantine) == (2, [])
    only_flow = tmp_path / "flow" / "made"
    _clip(only_flow / "clip.dcm", flow)
    assert _reasons(_ingest(only_flow, clips=Clips(frames=2, rule="distinct"))) == ["colour_doppler"] * 2


@pytest.mark.parametrize(
    ("policy", "kinds"),
    [("all", {"mask", "box"}), ("segmentations", {"mask"}), ("boxes", {"box"}), ("none", set())],
)
def test_annotations_are_read_as_the_profile_says(tmp_path: Path, policy: str, kinds: set[str]) -> None:
    folder = tmp_path / "made"
    image = write_image(folder / "a.dcm")
    write_segmentation(folder / "a.seg", image, {"head": head_mask()}, "s")
    write_boxes(folder / "a.sr", image, {"csp": [(80.0, 50.0, 100.0, 60.0)]}, "b")
    result = _ingest(folder, annotations=policy)
    assert {row["kind"] for row in result.annotations} == kinds
    assert (len(result.frames), result.quarantine) == (1, [])


@pytest.mark.parametrize(
    ("policy", "spacings", "reasons"),
    [("header", [None, 0.2], []), ("ignore", [None, None], []), ("required", [0.2], ["no_spacing"])],
)
def test_spacing_is_taken_as_the_profile_says(
    tmp_path: Path, policy: str, spacings: list[float | None], reasons: list[str]
) -> None:
    folder = tmp_path / "made"
    write_image(folder / "with.dcm", 0, spacing_mm=(0.2, 0.2))
    write_image(folder / "without.dcm", 1)
    result = _ingest(folder, spacing=policy)
    assert sorted((row["spacing_mm"] for row in result.frames), key=lambda v: v or 0) == spacings
    assert _reasons(result) == reasons


def test_an_image_of_no_stated_plane_is_kept_as_unknown(tmp_path: Path) -> None:
    write_image(tmp_path / "made" / "a.dcm", study_description="Placenta", spacing_mm=(0.2, 0.2))
    (row,) = _ingest(tmp_path / "made").frames
    assert row["plane"] == "unknown"


def _with_regions(path: Path, seed: int, formats: list[tuple[int, int]], kind: str = "") -> None:
    write_image(path, seed)
    data = dcmread(path)
    if kind:
        data.ImageType = ["ORIGINAL", "PRIMARY", "OBSTETRICAL", kind]
    data.SequenceOfUltrasoundRegions = []
    for spatial, content in formats:
        item = Dataset()
        item.RegionSpatialFormat, item.RegionDataType = spatial, content
        item.RegionLocationMinX0, item.RegionLocationMinY0 = 30, 20
        item.RegionLocationMaxX1, item.RegionLocationMaxY1 = 149, 109
        data.SequenceOfUltrasoundRegions.append(item)
    dcmwrite(path, data)


def test_what_the_header_calls_no_tissue_is_set_aside(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    _with_regions(folder / "m-mode.dcm", 1, [(2, 1)])
    _with_regions(folder / "spectral.dcm", 2, [(3, 3), (4, 10)])
    _with_regions(folder / "render.dcm", 3, [(1, 1)], kind="0041")
    _with_regions(folder / "with-ecg.dcm", 4, [(1, 1), (4, 10)], kind="0001")
    result = _ingest(folder)
    assert _reasons(result) == ["not_two_dimensional", "not_two_dimensional", "rendered_3d"]
    assert len(result.frames) == 1


def test_orientation_is_kept_and_a_text_inside_becomes_a_mark_that_no_network_sees(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    tissue = np.pad(head(1, 200, 260), 20)
    # Shaded with a grain of its own: a saturated skull divided by three would be a line of one level, which is ink.
    shade = tissue * np.random.default_rng(1).uniform(0.2, 0.45, tissue.shape)
    write_image(folder / "a.dcm", pixels=np.where(np.arange(300) < 150, tissue, shade).astype(np.uint8))
    written = Image.fromarray(np.pad(head(2, 400, 520), 20))
    ImageDraw.Draw(written).text((200, 200), "MUSTER ANNA", fill=255, font_size=22)
    write_image(folder / "b.dcm", 8, pixels=np.asarray(written))
    plain, marked = sorted(_ingest(folder).frames, key=lambda row: len(row["marks"]))
    picture = decode_png(plain["image"]["bytes"])
    assert picture[:, : picture.shape[1] // 3].mean() > 2 * picture[:, -picture.shape[1] // 3 :].mean()
    assert plain["marks"] == "[]"
    table = pl.DataFrame([marked], schema=Frames.create_empty().schema)
    splits = table.select("case_id").with_columns(group=pl.lit("train"))
    cases = load_cases(table, Masks.create_empty(), splits, 64)
    assert 0.01 < cases.ignored.mean() < 0.3
    # The blanked rectangle was black; what networks get there is as bright as its surroundings.
    assert cases.images[cases.ignored].mean() > 0.5 * marked["level"]
