import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fetalflex.anatomy.coco import decode_runs, layouts_from_coco, mask_of_runs
from fetalflex.anatomy.interchange import Reading
from fetalflex.errors import AnnotationError, LayoutError

masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda shape: arrays(np.bool_, shape))
READING = Reading("brain", spacing_mm=0.5, names={"Brain": "head", "caliper": ""})


def encode(mask: np.ndarray) -> list[int]:
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
    return np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()


def compress(runs: list[int]) -> str:
    text = ""
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        while True:
            bits, value = value & 31, value >> 5
            more = not ((value == 0 and not bits & 16) or (value == -1 and bits & 16))
            text += chr(bits + (32 if more else 0) + 48)
            if not more:
                break
    return text


def write(path: Path, *annotations: dict[str, Any], size: tuple[int, int] = (40, 60), **changes: Any) -> Path:
    items = [{"image_id": 7, "category_id": 1} | a for a in annotations]
    value = {
        "images": [{"id": 7, "file_name": "a.png", "height": size[0], "width": size[1]}],
        "categories": [{"id": 1, "name": "Brain"}, {"id": 2, "name": "CSP"}, {"id": 3, "name": "caliper"},
                       {"id": 4, "name": "moon"}],
        "annotations": items,
    }  # fmt: skip
    path.write_text(json.dumps(value | changes))
    return path


@given(masks)
def test_run_lengths_give_the_mask_back(mask: np.ndarray) -> None:
    runs = encode(mask)
    assert np.array_equal(mask_of_runs(runs, *mask.shape), mask)
    assert decode_runs(compress(runs)) == runs


def test_compressed_run_lengths_are_those_of_the_reference() -> None:
    """Text made with pycocotools 2: rectangle of rows 2..5 and columns 1..6 in 8 x 10 pixels."""
    mask = np.zeros((8, 10), bool)
    mask[2:6, 1:7] = True
    assert np.array_equal(mask_of_runs(decode_runs(REFERENCE), 8, 10), mask)


REFERENCE = ":44000000000f0"


def test_boxes_polygons_and_masks_become_objects_in_mm(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:20, 30:50] = True
    counts = encode(mask)
    path = write(
        tmp_path / "a.json",
        {"bbox": [10, 5, 30, 20]},
        {"segmentation": [[10, 5, 40, 5, 40, 25]], "bbox": [10, 5, 30, 20]},
        {"segmentation": {"size": [40, 60], "counts": counts}, "category_id": 2},
        {"segmentation": {"size": [40, 60], "counts": compress(counts)}, "category_id": 2},
        {"segmentation": [[0, 0, 4, 0, 4, 4, 0, 4], [50, 30, 60, 30, 60, 40, 50, 40]], "category_id": 2},
        {"bbox": [0, 0, 5, 5], "category_id": 3},
    )
    layout = layouts_from_coco(path, READING)["a.png"]
    assert (layout.unit, layout.extent) == ("mm", 30.0)
    box, outline, plain, packed, several = layout.objects
    assert box.box == pytest.approx((5.0, 7.5, 20.0, 17.5))  # 10 rows of padding above
    assert (box.mask, box.shape) == (None, None)
    assert outline.shape is not None
    assert outline.box == pytest.approx((5.0, 7.5, 20.0, 17.5))
    assert np.array_equal(plain.mask, packed.mask)
    assert np.array_equal(plain.mask[10:50], mask)
    assert several.mask.sum() == 16 + 100


def test_without_spacing_layouts_are_in_image_units(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {"bbox": [0, 0, 60, 40]})
    layout = layouts_from_coco(path, Reading("brain", names={"Brain": "head"}))["a.png"]
    assert (layout.unit, layout.extent) == ("image", 1.0)
    assert layout.objects[0].box == pytest.approx((0, 1 / 6, 1, 5 / 6))


@pytest.mark.parametrize(
    ("annotation", "changes", "error", "message"),
    [
        ({"bbox": [0, 0, 5, 5], "category_id": 4}, {}, AnnotationError, "label 'moon' is no structure"),
        ({"bbox": [0, 0, 5]}, {}, AnnotationError, "no COCO annotations"),
        ({"bbox": [0, 0, 90, 5]}, {}, LayoutError, "leaves the frame"),
        ({"bbox": [0, 0, 0, 5]}, {}, LayoutError, "is empty"),
        ({"segmentation": [[1, 1, 2, 2, 3]]}, {}, AnnotationError, "no COCO"),
        ({"segmentation": {"size": [40, 60], "counts": [10]}}, {}, AnnotationError, "fill 10 pixels"),
        ({"segmentation": {"size": [4, 6], "counts": [12, 12]}}, {}, AnnotationError, r"mask of 'head' is \(4, 6\)"),
        ({"segmentation": {"size": [40, 60], "counts": "P"}}, {}, AnnotationError, "end within"),
        ({"segmentation": {"size": [40, 60], "counts": [2400]}}, {}, AnnotationError, "is empty"),
        ({"image_id": 8, "bbox": [0, 0, 5, 5]}, {}, AnnotationError, "no COCO"),
        ({"bbox": [0, 0, 5, 5]}, {"categories": None}, AnnotationError, "no COCO"),
        ({"bbox": [0, 0, 5, 5]}, {"images": [{"id": 7, "file_name": "a", "height": 0, "width": 9}]}, AnnotationError,
         "9 x 0 pixels"),
    ],
)  # fmt: skip
def test_says_what_is_wrong(
    tmp_path: Path, annotation: dict[str, Any], changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    path = write(tmp_path / "a.json", annotation, **changes)
    with pytest.raises(error, match=message):
        layouts_from_coco(path, READING)


def test_a_missing_or_foreign_file_is_an_annotation_error(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="cannot be read"):
        layouts_from_coco(tmp_path / "none.json", READING)
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(AnnotationError, match="no COCO"):
        layouts_from_coco(tmp_path / "x.json", READING)
    with pytest.raises(LayoutError, match="no structure of plane 'femur'"):
        layouts_from_coco(write(tmp_path / "a.json", {"bbox": [0, 0, 5, 5]}), Reading("femur", names={"Brain": "head"}))
