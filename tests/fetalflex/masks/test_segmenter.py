import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra import numpy as hnp

from fetalflex.anatomy.layout import rasterize
from fetalflex.anatomy.ontology import STRUCTURE_NAMES, plane_index, structure_index
from fetalflex.anatomy.statistics import FRAMES
from fetalflex.dataset import EXPERT_BOX
from fetalflex.errors import ModelError
from fetalflex.masks.segmenter import (
    WHOLE,
    Segmenter,
    SegmenterRun,
    known_structures,
    largest_part,
    predicted_structures,
    segmentation_loss,
    solidity,
    train_segmenter,
)
from fetalflex.phantom.planes import PLANS
from tests.fetalflex import tiny
from tests.fetalflex.anatomy.test_catalogue import phantom_layout

HEAD, CSP, FEMUR = (structure_index(n) for n in ("head", "csp", "femur"))


def test_unannotated_is_unknown_but_foreign_to_the_plane_is_absent() -> None:
    cases = tiny.cases(3)
    cases.sources[0, CSP] = 0
    cases.sources[1, HEAD] = EXPERT_BOX
    cases.planes[2] = plane_index("unknown")
    known = known_structures(cases)
    assert known[0, [HEAD, CSP, FEMUR]].tolist() == [1, 0, 1]
    assert known[1, HEAD] == 0
    assert known[2, [HEAD, FEMUR]].tolist() == [1, 0]


def test_loss_ignores_unknown_structures() -> None:
    logits = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    masks, known = torch.ones(2, 3, 8, 8), torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    segmentation_loss(logits, masks, known)[0].backward()
    assert logits.grad is not None
    assert not logits.grad[0, 1].any()
    assert not logits.grad[1].any()
    assert logits.grad[0, 0].all()


def test_segmenter_learns_overlapping_structures() -> None:
    cases = tiny.cases()
    found = tiny.segmenter(steps=120).predict(cases.images)
    assert ((found[:, HEAD] > 0.5) == cases.masks[:, HEAD]).mean() > 0.97
    assert (found[:, HEAD] > 0.5)[cases.masks[:, CSP]].mean() > 0.9
    assert not found[:, FEMUR].any()


def test_interrupted_training_resumes_bit_identical(tmp_path: Path) -> None:
    whole = list(train_segmenter(tiny.cases(), tiny.MASKS, SegmenterRun("guide", 1, tmp_path / "whole")))
    broken = train_segmenter(tiny.cases(), tiny.MASKS, SegmenterRun("guide", 1, tmp_path / "broken"))
    for _ in range(3):
        next(broken)
    broken.close()  # type: ignore[attr-defined]
    rest = list(train_segmenter(tiny.cases(), tiny.MASKS, SegmenterRun("guide", 1, tmp_path / "broken")))
    assert [s.loss for s in rest] == [s.loss for s in whole[2:]]
    assert tiny.weights(tmp_path / "whole") == tiny.weights(tmp_path / "broken")


def test_guide_and_judge_start_apart() -> None:
    first = [next(iter(train_segmenter(tiny.cases(), tiny.MASKS, SegmenterRun(r, 1)))).loss for r in ("guide", "judge")]  # type: ignore[arg-type]
    assert first[0] != first[1]


def test_loaded_segmenter_predicts_as_the_saved_one_in_any_company(tmp_path: Path) -> None:
    saved, images = tiny.segmenter(), tiny.cases().images
    saved.save(tmp_path)
    loaded = Segmenter.load(tmp_path)
    assert (loaded.role, loaded.trained) == ("guide", ("head", "csp"))
    whole = saved.predict(images)
    assert np.array_equal(loaded.predict(images[::-1])[::-1], whole)
    assert np.array_equal(loaded.predict(images[3:4])[0], whole[3])


@pytest.mark.parametrize("damage", ["channels", "trained", "role"])
def test_config_without_a_key_is_refused(tmp_path: Path, damage: str) -> None:
    tiny.segmenter().save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config[damage]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=damage):
        Segmenter.load(tmp_path)


def test_too_many_channels_are_refused() -> None:
    with pytest.raises(ModelError, match="expected 1 to 4"):
        Segmenter((8,) * 5, ("head",), "guide")


def test_weights_of_another_net_are_refused(tmp_path: Path) -> None:
    tiny.segmenter().save(tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace("16", "32"))
    with pytest.raises(ModelError, match="another configuration"):
        Segmenter.load(tmp_path)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    tiny.segmenter().save(tmp_path)
    (tmp_path / "model.pth").write_bytes(b"")
    with pytest.raises(ModelError, match="pickle"):
        Segmenter.load(tmp_path)


def test_structures_of_other_planes_and_faint_ones_are_not_predicted() -> None:
    chances = np.zeros((1, len(STRUCTURE_NAMES), 16, 16), np.float32)
    chances[0, HEAD, 2:9, 3:12] = 0.95
    chances[0, CSP, 4:6, 5:8] = 0.55
    chances[0, FEMUR, 2:9, 3:12] = 0.95
    found = predicted_structures(chances, np.array([plane_index("brain")]), 0.6)
    assert [(p.image, p.structure, p.box) for p in found] == [(0, "head", (3.0, 2.0, 12.0, 9.0))]
    assert found[0].confidence == pytest.approx(0.95)


@pytest.mark.parametrize(("column", "believed"), [(5, True), (11, True), (12, False), (14, False)])
def test_what_lies_mostly_outside_of_the_head_is_no_cavum(column: int, believed: bool) -> None:
    chances = np.zeros((2, len(STRUCTURE_NAMES), 16, 16), np.float32)
    chances[0, HEAD, 2:9, 3:12] = 0.95
    chances[:, CSP, 4:6, column : column + 2] = 0.9
    found = predicted_structures(chances, np.array([plane_index("brain")] * 2), 0.6)
    assert ((0, "csp") in [(p.image, p.structure) for p in found]) == believed
    assert (1, "csp") in [(p.image, p.structure) for p in found]  # where no head is seen, nothing tells


@pytest.mark.parametrize(("bay", "believed"), [(0, True), (2, True), (8, False)])
def test_a_head_with_a_bay_is_not_believed_nor_what_lies_in_it(bay: int, believed: bool) -> None:
    chances = np.zeros((1, len(STRUCTURE_NAMES), 32, 32), np.float32)
    rows, columns = np.mgrid[:32, :32]
    chances[0, HEAD] = 0.95 * (np.hypot(rows - 16, columns - 15) <= 12)
    chances[0, HEAD, 14:19, 28 - bay :] = 0.1
    chances[0, CSP, 10:12, 8:11] = 0.9
    found, plane = {}, np.array([plane_index("brain")])
    for least in (0.0, WHOLE):
        found[least] = [p.structure for p in predicted_structures(chances, plane, 0.6, least)]
    assert found[0.0] == ["head", "csp"]
    assert found[WHOLE] == (["head", "csp"] if believed else [])


@given(hnp.arrays(bool, (7, 9)).filter(np.any))
def test_solidity_is_the_share_of_the_pixels_in_the_hull(mask: np.ndarray) -> None:
    points = np.argwhere(mask).astype(np.float32)
    hull = cv2.convexHull(points)
    inside = [cv2.pointPolygonTest(hull, (float(r), float(c)), measureDist=False) >= 0 for r, c in np.ndindex(7, 9)]
    assert solidity(mask) == pytest.approx(mask.sum() / sum(inside))


@pytest.mark.parametrize("plane", sorted(FRAMES.keys() & PLANS.keys()))
def test_no_normal_anatomy_lies_outside_of_its_frame(plane: str) -> None:
    for seed in range(4):
        drawn = rasterize(phantom_layout(plane, 24.0, seed), 64).maps
        chances = 0.9 * (drawn > 0.5).astype(np.float32)
        found = predicted_structures(chances[None], np.array([plane_index(plane)]), 0.6, WHOLE)
        shown = (drawn > 0.5).any((1, 2))
        assert {p.structure for p in found} == {n for n, there in zip(STRUCTURE_NAMES, shown, strict=True) if there}


def test_largest_part_is_one_piece_without_holes() -> None:
    mask = np.zeros((16, 16), bool)
    mask[1:8, 1:8], mask[4, 4], mask[12:14, 12:14] = True, False, True
    part = largest_part(mask)
    assert part[1:8, 1:8].all()
    assert part.sum() == 49
    assert not largest_part(np.zeros((4, 4), bool)).any()
