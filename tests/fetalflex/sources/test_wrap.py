from itertools import islice
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw

from fetalflex.artifacts import tree_sha256
from fetalflex.errors import SourceError, UsageError
from fetalflex.ingest.bucket import BucketResult, ingest_bucket, scan
from fetalflex.params import Center, Ingest, parse
from fetalflex.sources.public import fill_hull, read_barcelona_transventricular, read_hc18
from fetalflex.sources.wrap import SETS, draft_center, import_set
from tests.fetalflex.dicom.samples import KEY, real_data, screen

PARAMS = Ingest(centers={"made": "frames"}, max_side_px=512)
FOLDERS = {name: name.replace("-", "_") for name in SETS}
VOC = (
    "<annotation><object><name>{}</name><polygon>{}</polygon><attributes>rotation={}</attributes></object></annotation>"
)


def picture(path: Path, seed: int, kind: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(screen(seed)).convert(kind).save(path)


def corners(x0: float, y0: float, x1: float, y1: float) -> str:
    points = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    return "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in points) + "<username/>"


@pytest.fixture
def hc18(tmp_path: Path) -> Path:
    root = tmp_path / "hc18"
    lines = ["filename,pixel size(mm),head circumference (mm)"]
    for i, name in enumerate(("000_HC", "000_2HC", "001_HC")):
        picture(root / "training_set" / f"{name}.png", i)
        outline = Image.new("L", (160, 120))
        ImageDraw.Draw(outline).ellipse((60, 40, 130, 90), outline=255)
        outline.save(root / "training_set" / f"{name}_Annotation.png")
        lines.append(f"{name}.png,0.{i + 1},50")
    (root / "training_set_pixel_size_and_HC.csv").write_text("\n".join(lines))
    return root


@pytest.fixture
def transventricular(tmp_path: Path) -> Path:
    root = tmp_path / "bcn"
    for i, name in enumerate(("Patient00007_Plane3_1_of_2", "Patient00008_Plane3_1_of_1")):
        picture(root / "images" / f"{name}.png", i)
        mask = Image.new("RGB", (160, 120))
        draw = ImageDraw.Draw(mask)
        draw.ellipse((50, 30, 140, 100), fill=(255, 0, 0))
        if i == 0:
            draw.rectangle((80, 60, 89, 69), fill=(0, 0, 255))
        (root / "masks").mkdir(exist_ok=True)
        mask.save(root / "masks" / f"{name}.png")
        (root / "boxes_voc").mkdir(exist_ok=True)
        (root / "boxes_voc" / f"{name}.xml").write_text(VOC.format("LV", corners(80, 60, 100, 70), 0 if i == 0 else 90))
    (root / "labelmap.txt").write_text("# label\nBrain:255,0,0::\nCSP:0,255,0::\nLV:0,0,255::\n")
    return root


def run(name: str, source: Path, out: Path, limit: int = 10**6, **more: str) -> list[str]:
    return [step.center for step in islice(import_set(name, source, out, "made", **more), limit)]


def ingested(name: str, folder: Path) -> BucketResult:
    profile = parse(draft_center(name, folder.name), Center, "drafted")
    return ingest_bucket(scan(folder, KEY), 0, 1, folder.name, profile, PARAMS, KEY)


def test_hc18_becomes_frames_with_spacing_and_filled_heads(hc18: Path, tmp_path: Path) -> None:
    assert run("hc18", hc18, tmp_path / "out") == ["made"] * 3
    result = ingested("hc18", tmp_path / "out" / "made")
    assert result.quarantine == []
    assert sorted(r["spacing_mm"] for r in result.frames) == [0.1, 0.2, 0.3]
    assert len({r["patient"] for r in result.frames}) == 2
    assert {(r["structure"], r["kind"]) for r in result.annotations} == {("head", "mask")}
    ellipse = np.pi * 35 * 25
    first = next(read_hc18(hc18)).marks((120, 160)).masks["head"]
    assert first.sum() == pytest.approx(ellipse, rel=0.05)


def test_colour_masks_become_segments_and_lone_boxes_stay_boxes(transventricular: Path, tmp_path: Path) -> None:
    run("barcelona-transventricular", transventricular, tmp_path / "out")
    result = ingested("barcelona-transventricular", tmp_path / "out" / "made")
    assert result.quarantine == []
    assert {r["plane"] for r in result.frames} == {"transventricular"}
    assert [r["spacing_mm"] for r in result.frames] == [None, None]
    found = sorted((r["structure"], r["kind"]) for r in result.annotations)
    assert found == [("head", "mask"), ("head", "mask"), ("lateral-ventricle", "box"), ("lateral-ventricle", "mask")]


def test_the_head_contains_what_is_painted_over_it_and_turned_boxes_are_turned(transventricular: Path) -> None:
    one, two = (p.marks((120, 160)) for p in read_barcelona_transventricular(transventricular))
    assert one.boxes == {}
    assert one.masks["head"][65, 85]
    assert one.masks["lateral-ventricle"].sum() == 100
    assert two.boxes["lateral-ventricle"][0] == pytest.approx((85, 55, 95, 75))


def test_an_outline_that_is_cut_is_filled_all_the_same() -> None:
    angles = np.linspace(0, 5, 200)
    points = np.stack([80 + 40 * np.cos(angles), 60 + 30 * np.sin(angles)], axis=1)
    assert fill_hull(points, (120, 160))[60, 80]
    with pytest.raises(SourceError, match="encloses nothing"):
        fill_hull(points[:2], (120, 160))


def test_planes_devices_and_unequal_spacings_of_barcelona(tmp_path: Path) -> None:
    root = tmp_path / "set"
    picture(root / "images" / "Patient1_Plane3_1_of_1.jpg", 0, "RGB")
    picture(root / "images" / "Patient2_Plane5_1_of_1.jpg", 1, "RGB")
    (root / "labels.csv").write_text(
        "image,patient,plane,brain_plane,us_machine\nPatient1_Plane3_1_of_1.jpg,1,brain,Trans-thalamic,Voluson E6\n"
        "Patient2_Plane5_1_of_1.jpg,2,femur,Not A Brain,Other\n"
    )
    (root / "landmarks.csv").write_text(
        "image,measure,mm_per_px_x,mm_per_px_y\nPatient1_Plane3_1_of_1.jpg,ofd,0.3,0.2\n"
    )
    run("barcelona-planes", root, tmp_path / "out")
    frames = sorted(ingested("barcelona-planes", tmp_path / "out" / "made").frames, key=lambda r: r["plane"])
    assert [(r["plane"], r["device"]) for r in frames] == [("femur", "unknown"), ("transthalamic", "GE Voluson E6")]
    assert frames[0]["spacing_mm"] is None
    assert frames[1]["spacing_mm"] == pytest.approx(0.2, rel=5e-3)  # sizes are whole pixels
    assert frames[1]["width"] / frames[0]["width"] == pytest.approx(1.5, abs=0.05)


@pytest.fixture
def african(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for i, (patient, country) in enumerate((("7", "DZA"), ("7", "GHA"), ("8", "GHA"))):
        picture(root / "images" / f"patient00{patient}_{country}.png", i)
    (root / "labels.csv").write_text(
        "Patient_num,Plane,Center,Image_name\n7,Fetal femur,Algeria,patient007_DZA\n"
        "7,Fetal brain,Ghana,patient007_GHA\n8,Fetal thorax,Ghana,patient008_GHA\n"
    )
    return root


def test_countries_become_centers_unless_one_is_chosen(african: Path, tmp_path: Path) -> None:
    assert run("african-planes", african, tmp_path / "all") == ["made-algeria", "made-ghana", "made-ghana"]
    assert draft_center("african-planes", "made-ghana")["title"].endswith("(Ghana)")
    assert run("african-planes", african, tmp_path / "one", country="Ghana") == ["made"] * 2
    assert sorted(r["plane"] for r in ingested("african-planes", tmp_path / "one" / "made").frames) == [
        "brain", "thorax",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="algeria, ghana"):
        run("african-planes", african, tmp_path / "none", country="Spain")


def test_anomalies_are_named_in_the_series_and_the_center_is_for_tests_only(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "images" / "a-27b.jpg", 0, "RGB")
    (tmp_path / "set" / "labels.csv").write_text("image_name,anomaly,original\na-27b.jpg,arachnoid-cyst,True\n")
    run("abnormal-brain", tmp_path / "set", tmp_path / "out")
    (path,) = (tmp_path / "out").rglob("*.dcm")
    assert pydicom.dcmread(path).SeriesDescription == "arachnoid-cyst"
    assert draft_center("abnormal-brain", "made")["role"] == "test_only"


def test_the_same_set_gives_the_same_bytes(transventricular: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run("barcelona-transventricular", transventricular, tmp_path / name)
    assert tree_sha256([tmp_path / "one" / "made"]) == tree_sha256([tmp_path / "two" / "made"])


@pytest.mark.parametrize("name", sorted(SETS))
def test_another_folder_is_refused_and_told_what_was_expected(name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"not the set {name}.*expected a folder that holds"):
        run(name, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_sets_and_tables_without_pictures_are_refused(hc18: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected one of hc18"):
        run("imagenet", hc18, tmp_path / "out")
    for path in (hc18 / "training_set").iterdir():
        path.unlink()
    with pytest.raises(SourceError, match="none of their images"):
        run("hc18", hc18, tmp_path / "out")
    (hc18 / "training_set_pixel_size_and_HC.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SourceError, match="pixel size"):
        run("hc18", hc18, tmp_path / "out")


def test_boxes_that_declare_entities_are_refused(transventricular: Path, tmp_path: Path) -> None:
    for path in (transventricular / "boxes_voc").iterdir():
        path.write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>')
    with pytest.raises(SourceError, match="entities"):
        run("barcelona-transventricular", transventricular, tmp_path / "out")


@pytest.mark.parametrize("name", sorted(SETS))
def test_each_real_set_arrives_as_frames(name: str, tmp_path: Path) -> None:
    source = real_data(FOLDERS[name])
    centers = run(name, source, tmp_path / "out", 5)
    folder = tmp_path / "out" / centers[0]
    result = ingested(name, folder)
    assert result.quarantine == []
    assert len(result.frames) == centers.count(centers[0])
    assert "unknown" not in {r["plane"] for r in result.frames}
    assert (name in ("hc18", "barcelona-transventricular")) == bool(result.annotations)
    assert (name == "hc18") <= all(r["spacing_mm"] for r in result.frames)
