import resource
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

import fetalflex.deid.file as subject
from fetalflex.deid.file import deidentify_file
from fetalflex.deid.pixels import PixelCleaner
from fetalflex.deid.values import keyed_uid
from fetalflex.dicom.read import read_header
from fetalflex.dicom.stream import iter_samples, open_writer
from fetalflex.dicom.write import write_boxes, write_segmentation
from fetalflex.errors import QuarantineError, Reason
from fetalflex.masks.annotations import read_annotations
from fetalflex.params import Deidentify
from tests.fetalflex.dicom.samples import KEY, head_mask, real_data, screen, write_image

OPTIONS = Deidentify()
DCIODVFY = shutil.which("dciodvfy")


@pytest.fixture(autouse=True)
def _no_reading_of_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What text is found is tested beside the pixels; here it would cost seconds per file."""
    monkeypatch.setattr(subject, "make_cleaner", lambda header: PixelCleaner(header, ocr=False))


def errors(path: Path) -> set[str]:
    """Return dciodvfy's errors of a file."""
    done = subprocess.run([str(DCIODVFY), str(path)], capture_output=True, text=True, check=False, errors="replace")
    return {line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")}


def test_an_image_loses_its_surroundings_and_its_identity(tmp_path: Path) -> None:
    pixels = screen()
    pixels[2:10, 5:60] = 250  # what a device writes above the sector
    write_image(tmp_path / "a.dcm", 2, pixels=pixels, patient_name="Jones^Ann", region=(30, 20, 150, 110))
    report = deidentify_file(tmp_path / "a.dcm", tmp_path / "out" / "b.dcm", OPTIONS, "made", KEY)
    ((samples, _),) = iter_samples(tmp_path / "out" / "b.dcm")
    assert not samples[:15].any()
    np.testing.assert_array_equal(samples[20:110, 30:150], pixels[20:110, 30:150])
    data = dcmread(tmp_path / "out" / "b.dcm")
    assert (report.kind, report.frames, report.uid) == ("image", 1, data.SOPInstanceUID)
    assert data.BurnedInAnnotation == "NO"
    assert "113101" in [c.CodeValue for c in data.DeidentificationMethodCodeSequence]
    assert b"Jones" not in (tmp_path / "out" / "b.dcm").read_bytes()


def test_compressed_stays_compressed_and_native_native(tmp_path: Path) -> None:
    for syntax, encapsulated in (("explicit", False), ("rle", True)):
        write_image(tmp_path / f"{syntax}.dcm", 2, syntax=syntax)
        deidentify_file(tmp_path / f"{syntax}.dcm", tmp_path / "out.dcm", OPTIONS, "made", KEY)
        assert read_header(tmp_path / "out.dcm").file_meta.TransferSyntaxUID.is_encapsulated is encapsulated


def test_annotations_keep_their_meaning_and_follow_the_image(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.dcm", 2)
    write_segmentation(tmp_path / "a.seg", image, {"head": head_mask()}, "s")
    write_boxes(tmp_path / "a.sr", image, {"csp": [(40.0, 30.0, 60.0, 50.0)]}, "s")
    uid = keyed_uid(KEY, image.SOPInstanceUID)
    for name, kind in (("a.seg", "segmentation"), ("a.sr", "report")):
        report = deidentify_file(tmp_path / name, tmp_path / f"out-{name}", OPTIONS, "made", KEY)
        assert report.kind == kind
        (one,) = read_annotations(tmp_path / f"out-{name}", uid).known
        (before,) = read_annotations(tmp_path / name, image.SOPInstanceUID).known
        assert (one.structure, one.box) == (before.structure, before.box)


def test_masks_with_bytes_beyond_their_frames_are_refused(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.dcm", 2)
    data = write_segmentation(tmp_path / "a.seg", image, {"head": head_mask()}, "s")
    data.PixelData = data.PixelData + b"Jones^Ann "
    data.save_as(tmp_path / "b.seg", enforce_file_format=True)
    with pytest.raises(QuarantineError) as caught:
        deidentify_file(tmp_path / "b.seg", tmp_path / "out.seg", OPTIONS, "made", KEY)
    assert caught.value.reason is Reason.LYING_LENGTH
    assert not (tmp_path / "out.seg").exists()


def test_a_refused_file_leaves_nothing_behind(tmp_path: Path) -> None:
    write_image(tmp_path / "a.dcm", 2)
    raw = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(raw[:-4000])
    with pytest.raises(QuarantineError):
        deidentify_file(tmp_path / "a.dcm", tmp_path / "out" / "a.dcm", OPTIONS, "made", KEY)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_a_clip_of_any_length_takes_the_memory_of_a_few_frames(tmp_path: Path) -> None:
    write_image(tmp_path / "still", 2)
    frame = np.repeat(screen(1, (672, 1016))[..., None], 3, axis=-1)
    data = read_header(tmp_path / "still")
    with open_writer(tmp_path / "clip.dcm", data, 50, "native") as writer:
        for _ in range(50):
            writer.add(frame)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    deidentify_file(tmp_path / "clip.dcm", tmp_path / "out.dcm", OPTIONS, "made", KEY)
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert (tmp_path / "out.dcm").stat().st_size > 50 * frame.nbytes
    assert grown_mib < 60  # the clip has 98 MiB


@pytest.mark.skipif(DCIODVFY is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
def test_dciodvfy_finds_no_new_error_in_made_files(tmp_path: Path) -> None:
    image = write_image(tmp_path / "still.dcm", 2, spacing_mm=(0.2, 0.2), age_weeks=20.0, manufacturer="Philips")
    write_image(tmp_path / "rle.dcm", 3, syntax="rle")
    write_segmentation(tmp_path / "a.seg", image, {"head": head_mask()}, "s")
    write_boxes(tmp_path / "a.sr", image, {"csp": [(40.0, 30.0, 60.0, 50.0)]}, "s")
    for source in sorted(p for p in tmp_path.iterdir() if p.is_file()):
        for number, options in enumerate((OPTIONS, Deidentify(dates="remove", descriptors="remove", device="remove"))):
            target = tmp_path / "out" / f"{source.name}-{number}"
            deidentify_file(source, target, options, "made", KEY)
            assert errors(target) <= errors(source), source.name


@pytest.mark.skipif(DCIODVFY is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
def test_dciodvfy_finds_no_new_error_in_real_files(tmp_path: Path) -> None:
    done, refused = 0, []
    for source in sorted(real_data("us_dicom").glob("*.[dD][cC][mM]")):
        try:
            deidentify_file(source, tmp_path / source.name, OPTIONS, "made", KEY)
        except QuarantineError as error:
            refused.append((source.name, error.reason))
            continue
        assert errors(tmp_path / source.name) <= errors(source), source.name
        done += 1
    # GDCM's formats are read within a worker only.
    assert {reason for _, reason in refused} <= {Reason.UNSUPPORTED_TRANSFER_SYNTAX}
    assert len(refused) == 2
    assert done == 28
