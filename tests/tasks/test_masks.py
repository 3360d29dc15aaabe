"""Expert rows are united, predicted ones fill only what nobody annotated."""

import numpy as np
import polars as pl

from fetalflex import tables
from fetalflex.anatomy.ontology import STRUCTURE_NAMES, plane_index
from fetalflex.artifacts import decode_png, picture
from fetalflex.dataset import load_cases
from tasks.masks import expert_rows, predicted_rows

CASE = "c" * 16


def _frames() -> pl.DataFrame:
    row = {
        "case_id": CASE, "center": "a", "patient": "p" * 16, "image": picture(np.full((40, 64), 50, np.uint8), CASE),
        "plane": "transventricular", "age_weeks": None, "spacing_mm": None, "height": 40, "width": 64, "device": "d",
        "pixels": "0" * 64, "phash": "0" * 16, "level": 60.0, "marks": "[]",
    }  # fmt: skip
    return pl.DataFrame([row], schema=tables.Frames.create_empty().schema)


def _annotation(number: int, box: tuple[int, int, int, int], *, mask: bool) -> dict[str, object]:
    x0, y0, x1, y1 = box
    pixels = np.zeros((40, 64), np.uint8)
    pixels[y0:y1, x0:x1] = 255
    kind = {"kind": "mask", "mask": picture(pixels, "m")} if mask else {"kind": "box", "mask": None}
    where = {"x0": float(x0), "y0": float(y0), "x1": float(x1), "y1": float(y1)}
    return {"case_id": CASE, "structure": "lateral-ventricle", "number": number} | kind | where


def _annotations(*rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=tables.Annotations.create_empty().schema)


def test_two_masks_of_one_structure_become_one() -> None:
    both = _annotations(_annotation(0, (4, 4, 10, 8), mask=True), _annotation(1, (20, 10, 30, 20), mask=True))
    (row,) = expert_rows(_frames(), both)
    assert (row["x0"], row["y0"], row["x1"], row["y1"]) == (4, 4, 30, 20)
    assert int((decode_png(row["mask"]["bytes"]) > 0).sum()) == 6 * 4 + 10 * 10


def test_a_box_stays_a_box() -> None:
    (row,) = expert_rows(_frames(), _annotations(_annotation(0, (4, 4, 10, 8), mask=False)))
    assert row["mask"] is None
    assert row["source"] == "expert"


class _Guide:
    """Finds head and ventricle in every image."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        chances = np.zeros((len(images), len(STRUCTURE_NAMES), 64, 64), np.float32)
        chances[:, STRUCTURE_NAMES.index("head"), 16:48, 8:56] = 0.9
        chances[:, STRUCTURE_NAMES.index("lateral-ventricle"), 24:30, 20:40] = 0.9
        return chances


def test_prediction_leaves_annotated_structures_alone_and_is_in_frame_pixels() -> None:
    frames = _frames()
    expert = expert_rows(frames, _annotations(_annotation(0, (20, 12, 40, 18), mask=True)))
    split = {"case_id": CASE, "center": "a", "patient": "p" * 16, "cluster": "x", "group": "train", "moved_from": None}
    cases = load_cases(
        frames,
        pl.DataFrame(expert, schema=tables.Masks.create_empty().schema),
        pl.DataFrame([split], schema=tables.Splits.create_empty().schema),
        64,
    )
    assert cases.planes[0] == plane_index("transventricular")
    (row,) = predicted_rows(_Guide(), cases, frames, 0.5)  # type: ignore[arg-type]
    assert (row["structure"], row["source"]) == ("head", "predicted")
    # The canvas pads 12 rows above and below the 64 x 40 frame.
    assert (row["x0"], row["y0"], row["x1"], row["y1"]) == (8, 4, 56, 36)
    assert 0.85 < row["confidence"] <= 1
