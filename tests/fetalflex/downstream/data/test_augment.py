import numpy as np
import torch

from fetalflex.downstream.data.augment import classic, cut_and_paste, light
from fetalflex.rng import generator
from tests.fetalflex.downstream.made import labelled

IMAGES = labelled(6, "r").images


def test_both_keep_form_and_range_and_depend_on_the_generator_alone():
    for augment in (light, classic):
        x = augment(IMAGES, generator(1))
        assert x.shape == (6, 1, 32, 32)
        assert x.dtype == torch.float32
        assert float(x.abs().max()) <= 1.41
        assert torch.equal(x, augment(IMAGES, generator(1)))
        assert not torch.equal(x, augment(IMAGES, generator(2)))


def test_classic_moves_more_than_light():
    many = np.repeat(IMAGES[:1], 40, axis=0)
    assert classic(many, generator(1)).std(0).mean() > light(many, generator(1)).std(0).mean()


def test_cut_and_paste_changes_a_patch_and_leaves_its_input():
    before = IMAGES.copy()
    changed = (cut_and_paste(IMAGES, generator(3)) != IMAGES).mean((1, 2))
    assert np.array_equal(IMAGES, before)
    assert (changed > 0).all()
    assert (changed < 0.2).all()
