"""The statistics of the benchmark of sampling."""

import numpy as np
import pytest

from benchmarks.sampling import Sample, changed, expert_layout, read_changes, run_plain
from benchmarks.sampling import World as Models
from benchmarks.sampling_edits import edge_gradient, seam_ratio
from fetalflex.dataset import PREDICTED
from fetalflex.diffusion.two_stage import sample_images
from tests.fetalflex import tiny


def block(side: int = 12) -> np.ndarray:
    inside = np.zeros((side, side), bool)
    inside[4:8, 4:8] = True
    return inside


def test_gradient_across_an_edge_counts_each_pair_once() -> None:
    grey = np.where(block(), 30, 10).astype(np.uint8)
    assert edge_gradient(grey, block()) == 20
    assert edge_gradient(np.full_like(grey, 7), block()) == 0
    assert np.isnan(edge_gradient(grey, np.zeros((12, 12), bool)))


def test_an_untouched_image_has_ratio_one_and_a_pasted_block_more() -> None:
    random = np.random.default_rng(2)
    references = random.integers(80, 120, (6, 12, 12)).astype(np.uint8)
    pasted = np.where(block(), references + 60, references).astype(np.uint8)
    names, regions = np.repeat(["a", "b", "c"], 2), [block()] * 6
    same = seam_ratio(references, references, regions, 0, names)
    seams = seam_ratio(pasted, references, regions, 0, names)
    inside = seam_ratio(pasted, references, regions, 1, names)
    assert (same.value, same.low, same.high) == (1, 1, 1)
    assert seams.low > 2
    assert inside.value == 1


def test_layouts_hold_what_experts_drew_alone() -> None:
    cases = tiny.cases(2)
    cases.sources[0, np.flatnonzero(cases.sources[0])[1]] = PREDICTED
    assert [o.structure for o in expert_layout(cases, 0).objects] == ["head"]
    assert len(expert_layout(cases, 1).objects) == 2


def test_one_plain_stage_is_what_sampling_makes_in_one_stage(tmp_path) -> None:
    cases = tiny.cases(3)
    params = Sample(coarse_steps=4, agreement=0.0, guidance=2.5, batch_size=8)
    models = Models(tiny.generator(), tiny.segmenter(), tiny.segmenter("judge"), cases, cases, tmp_path, params)
    arm = run_plain(models, "plain", 4, "euler")
    ours = sample_images(models.generator, models.guide, models.requests(), params, seed=7)
    assert np.array_equal(arm.images, [r.image for r in ours])
    assert arm.dice.shape == (3, cases.masks.shape[1])
    again = run_plain(models, "plain", 4, "euler")
    assert again.seconds == pytest.approx(arm.seconds)  # taken from what is kept


def test_parameters_are_changed_by_name_and_checked() -> None:
    params = changed(Sample(), read_changes(["guidance=1.5", "typical_outlines=false"]))
    assert (params.guidance, params.typical_outlines) == (1.5, False)
    with pytest.raises(ValueError, match="guidence"):
        changed(Sample(), {"guidence": 1.5})
