"""Tables of a release and their schemas."""

import dataframely as dy


def _picture(*, nullable: bool = False) -> dy.Struct:
    return dy.Struct({"bytes": dy.Binary(nullable=nullable), "path": dy.String(nullable=nullable)}, nullable=nullable)


class ReleasedImages(dy.Schema):
    """Every image of a release: `release/files/images.parquet`, one row per image.

    `sha256` is that of its PNG bytes, `pixels` that of its grey levels (row by row), so that the DICOM file can be held
    against it; `dicom`, `segmentation` (null where no outline was asked) and `boxes` (null where no box was) are those
    of the exported files. `accepted`: the gate's verdict on the image, `reason` why not.
    """

    image_id = dy.String(primary_key=True, min_length=16)
    kind = dy.String(nullable=False)
    plane = dy.String(nullable=False)
    center = dy.String(nullable=False)
    source_case = dy.String(nullable=False)
    accepted = dy.Bool(nullable=False)
    reason = dy.String(nullable=True)
    sha256 = dy.String(nullable=False, min_length=64)
    pixels = dy.String(nullable=False, min_length=64)
    dicom = dy.String(nullable=False, min_length=64)
    segmentation = dy.String(nullable=True, min_length=64)
    boxes = dy.String(nullable=True, min_length=64)


class HubImages(dy.Schema):
    """Images for the Hugging Face hub: `huggingface/data/accepted-NN.parquet` and `rejected-NN.parquet`.

    `labels` is a map of the asked outlines: 0 where nothing was asked, else 1 + the structure's number; what is asked
    by its box alone is filled; the smaller of two structures lies on top. `layout` is the asked layout as JSON.
    """

    image_id = dy.String(primary_key=True, min_length=16)
    image = _picture()
    labels = _picture()
    kind = dy.Enum(["normal", "abnormal", "pair-normal", "pair-abnormal"], nullable=False)
    pair_id = dy.String(nullable=True)
    region = _picture(nullable=True)
    plane = dy.String(nullable=False)
    center = dy.String(nullable=False)
    age_weeks = dy.Float64(nullable=True)
    anomaly = dy.String(nullable=True)
    severity = dy.Float64(nullable=True)
    severity_unit = dy.String(nullable=True)
    second_anomaly = dy.String(nullable=True)
    second_severity = dy.Float64(nullable=True)
    second_severity_unit = dy.String(nullable=True)
    layout = dy.String(nullable=False)
    rejected_for = dy.String(nullable=True)
