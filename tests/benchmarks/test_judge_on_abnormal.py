import csv
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.judge_on_abnormal import measure_phantom, measure_public
from fetalflex.anatomy.ontology import STRUCTURE_NAMES


class BlindJudge:
    """A judge that marks nothing."""

    trained = ("head", "lateral-ventricle", "abdomen", "stomach")

    def predict(self, images: np.ndarray) -> np.ndarray:
        return np.zeros((len(images), len(STRUCTURE_NAMES), *images.shape[1:]), np.float32)


class RoundJudge(BlindJudge):
    """A judge that sees the same head and ventricle in every image."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        chances = super().predict(images)
        size = images.shape[-1]
        y, x = np.mgrid[:size, :size] / size - 0.5
        chances[:, STRUCTURE_NAMES.index("head")] = (x / 0.4) ** 2 + (y / 0.3) ** 2 < 1
        chances[:, STRUCTURE_NAMES.index("lateral-ventricle")] = (x / 0.2) ** 2 + (y / 0.1) ** 2 < 1
        return chances


def test_public_images_are_counted_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with (tmp_path / "labels.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["image_name", "anomaly"])
        for i in range(3):
            Image.fromarray(np.full((40, 50), 90, np.uint8)).save(tmp_path / "images" / f"{i}.png")
            writer.writerow([f"{i}.png", "mild" if i else "other"])
    blind = measure_public(BlindJudge(), tmp_path, 64)  # type: ignore[arg-type]
    assert [(r["named"], r["n"], r["measured"], r["found"]) for r in blind] == [("mild", 2, 0, 0), ("other", 1, 0, 0)]
    seeing = measure_public(RoundJudge(), tmp_path, 64)  # type: ignore[arg-type]
    assert [(r["named"], r["found"]) for r in seeing] == [("mild", 2), ("other", 1)]  # a third of the head's width


def test_a_blind_judge_finds_every_absence_in_normal_scenes_too() -> None:
    rows = {str(r["anomaly"]): r for r in measure_phantom(BlindJudge(), 32, 1)}  # type: ignore[arg-type]
    assert set(rows) == {"ventriculomegaly", "microcephaly", "absent-stomach"}
    assert (rows["absent-stomach"]["found"], rows["absent-stomach"]["in_normal"]) == (1, 1)
    assert (rows["ventriculomegaly"]["found"], rows["ventriculomegaly"]["off_by"]) == (0, None)
