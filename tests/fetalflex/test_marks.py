"""What lies under a mark reaches no network and no loss; what lies beside it stays; without marks nothing changes."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fetalflex import tables
from fetalflex.artifacts import picture
from fetalflex.dataset import Cases, load_cases, marked_share, to_canvas, touched_canvas
from fetalflex.diffusion.objective import flow_loss
from fetalflex.diffusion.train import Run, train_generator
from fetalflex.errors import ArtifactError
from fetalflex.marks import fill_marks, read_marks
from fetalflex.masks.segmenter import SegmenterRun, segmentation_loss, train_segmenter
from fetalflex.model.batches import Moves, Pictures, augment, augment_with, seen_mean, step_random
from fetalflex.model.prealign import train_aligner
from tests.fetalflex import tiny

BOX = (20, 12, 44, 20)  # x0, y0, x1, y1 in a frame of 64 x 64


def _frames(under: int, boxes: list[tuple[int, int, int, int]]) -> pl.DataFrame:
    """Eight frames that differ from those of another call only under BOX, where the grey level is `under`."""
    rows = []
    for i in range(8):
        pixels = np.kron(tiny.cases().images[i], np.ones((2, 2), np.uint8))
        x0, y0, x1, y1 = BOX
        pixels[y0:y1, x0:x1] = under
        case = f"case-{i:016}"
        marks = json.dumps([{"kind": "text", "box": list(box)} for box in boxes])
        rows.append({
            "case_id": case, "center": "near", "patient": case, "image": picture(pixels, case),
            "plane": "transventricular", "age_weeks": None, "spacing_mm": None, "height": 64, "width": 64,
            "device": "d", "pixels": f"{i:064}", "phash": "0" * 16, "level": 60.0, "marks": marks,
        })  # fmt: skip
    return pl.DataFrame(rows, schema=tables.Frames.create_empty().schema)


def _cases(under: int, boxes: list[tuple[int, int, int, int]]) -> Cases:
    frames = _frames(under, boxes)
    splits = frames.select("case_id").with_columns(group=pl.lit("train"))
    read = load_cases(frames, tables.Masks.create_empty(), splits, tiny.SIZE)
    known = tiny.cases()  # with structures, so that every loss has something to do
    return replace(read, masks=known.masks, sources=known.sources, planes=known.planes, centers=known.centers)


def _trainings(cases: Cases) -> dict[str, Iterator[Any]]:
    return {
        "segmenter": train_segmenter(cases, tiny.MASKS, SegmenterRun("guide", 1)),
        "aligner": train_aligner(cases, tiny.PREALIGN, tiny.TRAIN.patch, seed=1),
        "generator": train_generator(cases, tiny.aligner(), tiny.TRAIN, Run(1)),
    }


def _weights(trained: Any) -> list[torch.Tensor]:
    network: nn.Module = trained.denoiser if hasattr(trained, "denoiser") else trained
    return [p.detach() for p in network.parameters()]


@pytest.mark.parametrize("name", ["segmenter", "aligner", "generator"])
def test_what_lies_under_a_mark_changes_no_training(name: str) -> None:
    """Losses and weights after several steps are the same, bit for bit, whatever was blanked or drawn there."""
    one, other = (list(_trainings(_cases(under, [BOX]))[name]) for under in (0, 255))
    assert [step.loss for step in one] == [step.loss for step in other]
    assert all(torch.equal(a, b) for a, b in zip(_weights(one[-1].trained), _weights(other[-1].trained), strict=True))


@pytest.mark.parametrize("name", ["segmenter", "aligner", "generator"])
def test_unmarked_pixels_do_change_a_training(name: str) -> None:
    one, other = (next(_trainings(_cases(under, []))[name]).loss for under in (0, 255))
    assert one != other


def test_marked_pixels_are_filled_from_their_surroundings_and_noted() -> None:
    black, white, plain = _cases(0, [BOX]), _cases(255, [BOX]), _cases(0, [])
    np.testing.assert_array_equal(black.images, white.images)
    np.testing.assert_array_equal(black.ignored, white.ignored)
    assert black.ignored[0, 6:10, 10:22].all()
    assert not black.ignored[0, :4].any()
    np.testing.assert_array_equal(black.images[~black.ignored], plain.images[~black.ignored])
    assert not plain.ignored.any()
    assert marked_share(black)[0] == pytest.approx(14 * 6 / 32**2, abs=0.01)


def test_flow_loss_has_no_gradient_where_pixels_are_ignored() -> None:
    clean, noise = (torch.randn(2, 1, 8, 8, generator=step_random(1, n)) for n in ("clean", "noise"))
    hidden = torch.zeros(2, 1, 8, 8)
    hidden[:, :, 2:5, 3:7] = 1
    predicted = torch.zeros(2, 1, 8, 8, requires_grad=True)
    loss = flow_loss(lambda _x, _t: predicted, clean, noise, torch.tensor([0.2, 0.7]), hidden)
    (gradient,) = torch.autograd.grad(loss.sum(), predicted)
    assert (gradient[hidden > 0] == 0).all()
    assert (gradient[hidden == 0] != 0).all()
    other = flow_loss(lambda _x, _t: predicted, clean + 9 * hidden, noise, torch.tensor([0.2, 0.7]), hidden)
    assert torch.equal(loss, other)


def test_segmentation_loss_and_gradient_ignore_truth_and_guess_under_a_mark() -> None:
    random = step_random(1, "segments")
    logits = torch.randn(2, 3, 8, 8, generator=random, requires_grad=True)
    masks = (torch.rand(2, 3, 8, 8, generator=random) > 0.5).float()
    known, hidden = torch.ones(2, 3), torch.zeros(2, 1, 8, 8)
    hidden[:, :, 2:5, 3:7] = 1
    loss, dice = segmentation_loss(logits, masks, known, hidden)
    (gradient,) = torch.autograd.grad(loss, logits)
    everywhere = hidden.expand_as(gradient)
    assert (gradient[everywhere > 0] == 0).all()
    assert (gradient[everywhere == 0] != 0).all()
    other, other_dice = segmentation_loss(logits, torch.where(everywhere > 0, 1 - masks, masks), known, hidden)
    assert torch.equal(loss, other)
    assert dice == other_dice


def test_without_marks_every_loss_is_what_it_was() -> None:
    random = step_random(1, "plain")
    values = torch.randn(2, 3, 8, 8, generator=random)
    assert Pictures(tiny.cases(), Moves()).ignored is None
    assert torch.equal(seen_mean(values, None, (2, 3)), values.mean((2, 3)))
    torch.testing.assert_close(seen_mean(values, torch.zeros(2, 1, 8, 8), (2, 3)), values.mean((2, 3)))
    maps, moves = torch.zeros(2, 3, 8, 8), Moves(rotation_deg=10, scale=0.1)
    plain = augment(values[:, :1], maps, moves, step_random(2, "moves"))
    moved = augment_with(values[:, :1], maps, None, moves, step_random(2, "moves"))
    assert torch.equal(plain[0], moved[0])
    assert moved[2] is None


@pytest.mark.parametrize("moves", [Moves(0.5, rotation_deg=15, scale=0.2, shift=0.1), Moves(0.5, shift=0.2)])
def test_nothing_of_an_ignored_pixel_is_left_where_pixels_count_after_a_move(moves: Moves) -> None:
    hidden = torch.zeros(4, 1, 16, 16)
    hidden[:, :, 5:9, 6:11] = 1
    signal = hidden * 2 - 1  # white exactly where it is hidden, black elsewhere
    moved, _, under = augment_with(signal, torch.zeros(4, 1, 16, 16), hidden, moves, step_random(3, "moves"))
    assert under is not None
    assert (moved[under == 0] == -1).all()
    assert 0 < under.mean() < 0.4


def test_an_image_that_is_all_marks_has_loss_zero() -> None:
    assert float(seen_mean(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4), (1, 2, 3))) == 0


@given(
    st.integers(8, 60), st.integers(8, 60), st.integers(0, 50), st.integers(0, 50), st.integers(1, 20),
    st.sampled_from([16, 32, 64]),
)  # fmt: skip
def test_canvas_pixels_that_are_not_ignored_hold_nothing_of_a_mark(
    height: int, width: int, x: int, y: int, side: int, size: int
) -> None:
    mask = np.zeros((height, width), bool)
    mask[y : y + side, x : x + side] = True
    grey = np.random.default_rng(0).integers(0, 255, (height, width), np.uint8)
    changed = np.where(mask, 255 - grey, grey).astype(np.uint8)
    seen = ~touched_canvas(mask, size)
    np.testing.assert_array_equal(to_canvas(grey, size)[seen], to_canvas(changed, size)[seen])


@given(st.integers(0, 40), st.integers(0, 30), st.integers(1, 60), st.integers(1, 60))
def test_a_filling_depends_on_the_surroundings_alone(x: int, y: int, width: int, height: int) -> None:
    grey = np.random.default_rng(1).integers(0, 255, (40, 50), np.uint8)
    mask = read_marks(json.dumps([{"kind": "caliper", "box": [x, y, x + width, y + height]}]), 40, 50)
    assert mask is not None
    one, other = (fill_marks(np.where(mask, level, grey).astype(np.uint8), mask) for level in (0, 255))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one[~mask], grey[~mask])


def test_no_marks_are_none_and_broken_ones_are_an_error() -> None:
    assert read_marks("[]", 8, 8) is None
    for text in ("", "[{}]", '[{"box": [1, 2, 3]}]', "{", '[{"box": null}]'):
        with pytest.raises(ArtifactError, match="re-run the stage ingest"):
            read_marks(text, 8, 8)


def test_packed_cases_carry_what_is_ignored(tmp_path: Path) -> None:
    marked = _cases(0, [BOX])
    marked.save(tmp_path / "cases.npz")
    np.testing.assert_array_equal(Cases.load(tmp_path / "cases.npz").ignored, marked.ignored)
