"""Tiny cases and models for the tests of model, diffusion and masks: rings on black, nets of few weights."""

from functools import cache
from pathlib import Path

import numpy as np

from fetalflex.anatomy.layout import Layout, LayoutObject, mask_box
from fetalflex.anatomy.ontology import STRUCTURE_NAMES, plane_index, structure_index
from fetalflex.dataset import EXPERT, Cases
from fetalflex.diffusion.train import Run, train_generator
from fetalflex.masks.segmenter import Segmenter, SegmenterRun, train_segmenter
from fetalflex.model.generator import Generator
from fetalflex.model.prealign import Aligner, train_aligner
from fetalflex.params import Masks, Prealign, Sample, Train

SIZE = 32
PREALIGN = Prealign(steps=3, batch_size=4, embedding=32, hidden=8, checkpoint_every=2)
TRAIN = Train(steps=4, batch_size=4, warmup_steps=2, channels=(32, 64), attention_side=8, checkpoint_every=2)
MASKS = Masks(steps=4, batch_size=4, channels=(8, 16), checkpoint_every=2)
SAMPLE = Sample(steering=0.0, budget=7, coarse_steps=3, fine_steps=2, batch_size=4, agreement=1.0, guidance=2.0)


def ellipse(x: float, y: float, a: float, b: float, size: int = SIZE) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] + 0.5
    return ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1


def cases(count: int = 8) -> Cases:
    """Heads: a grey disc with a bright rim and a dark slit, whose centre and size differ from case to case."""
    random, k = np.random.default_rng(3), len(STRUCTURE_NAMES)
    images = random.integers(0, 12, (count, SIZE, SIZE)).astype(np.uint8)
    masks, sources = np.zeros((count, k, SIZE, SIZE), bool), np.zeros((count, k), np.uint8)
    for i in range(count):
        x, y = random.uniform(13, 19, 2)
        a, b = random.uniform(8, 11), random.uniform(6, 8)
        head, brain, csp = ellipse(x, y, a, b), ellipse(x, y, a - 2, b - 2), ellipse(x + 3, y, 2.5, 1.5)
        images[i][head], images[i][brain], images[i][csp] = 220, 90, 10
        for name, mask in (("head", head), ("csp", csp)):
            masks[i, structure_index(name)], sources[i, structure_index(name)] = mask, EXPERT
    text = np.array([f"case{i}" for i in range(count)])
    return Cases(
        ids=text, centers=np.array(["near", "far"] * count)[:count], patients=text,
        groups=np.array(["train"] * count), images=images, masks=masks, sources=sources,
        confidences=sources.astype(np.float32), planes=np.full(count, plane_index("transventricular")),
        ages=np.full(count, np.nan, np.float32), spacings=np.full(count, 2.0, np.float32),
        valid=np.ones((count, SIZE, SIZE), bool), ignored=np.zeros((count, SIZE, SIZE), bool),
    )  # fmt: skip


def layout(x: float = 16, boxed: bool = False, edited: bool = False) -> Layout:
    """A head and a CSP in mm (64 mm over the canvas), both as masks or both as boxes."""
    objects = []
    for name, mask in (("head", ellipse(x, 16, 10, 7)), ("csp", ellipse(x + 3, 16, 2.5, 1.5))):
        box = mask_box(mask, 64.0)
        assert box is not None
        objects.append(LayoutObject(name, box, None if boxed else mask, edited and name == "csp"))
    return Layout("transventricular", "mm", 64.0, tuple(objects), "near", None)


@cache
def aligner() -> Aligner:
    trained = [step.trained for step in train_aligner(cases(), PREALIGN, TRAIN.patch, seed=1)][-1]
    assert trained is not None
    return trained


@cache
def generator() -> Generator:
    trained = [step.trained for step in train_generator(cases(), aligner(), TRAIN, Run(seed=1))][-1]
    assert trained is not None
    return trained


@cache
def segmenter(role: str = "guide", steps: int = 60) -> Segmenter:
    params = MASKS.model_copy(update={"steps": steps, "learning_rate": 1e-2})
    run = SegmenterRun("judge" if role == "judge" else "guide", seed=1)
    trained = [step.trained for step in train_segmenter(cases(), params, run)][-1]
    assert trained is not None
    return trained


def weights(path: Path) -> bytes:
    return (path / "checkpoint.safetensors").read_bytes()
