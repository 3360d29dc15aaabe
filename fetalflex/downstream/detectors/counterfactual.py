"""The generator as a detector: how far is an image from its own normal reconstruction?

An image is noised to a middle time and denoised again by the generator, which knows normal anatomy alone, under a
layout that says no more than the plane and the outline of its largest structure (the head, the abdomen): what is inside
is the generator's guess of how it would be if it were normal. The difference, in units of what real normal images
differ by at that place, is the heat map.
Source: the idea as in Wyatt et al. 2022, AnoDDPM (CVPR Workshops), and Bercea et al. 2023 (arXiv 2305.19643), with a
layout as condition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter

from fetalflex.anatomy.layout import Layout, LayoutObject
from fetalflex.anatomy.ontology import plane_index
from fetalflex.diffusion.guidance import Codes, guided
from fetalflex.diffusion.objective import interpolate
from fetalflex.diffusion.solver import euler, noise, time_grid
from fetalflex.masks.segmenter import Segmenter, predicted_structures
from fetalflex.model.batches import to_pixels, to_signal
from fetalflex.model.generator import Generator
from fetalflex.params_evaluate import Evaluate
from fetalflex.rng import derive_seed

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
_REPEATS, _BATCH = 2, 16
_GRAIN_PX, _SMOOTH_PX, _HOTTEST = 1.0, 1.5, 0.02
_SURE = 0.5


@dataclass(frozen=True, eq=False)
class Reconstructor:
    """What a reconstruction takes; the guide may be used, the judge may not: it is for measuring control."""

    generator: Generator
    guide: Segmenter
    params: Evaluate
    seed: int

    def residuals(self, images: Images, planes: npt.NDArray[np.str_]) -> Floats:
        """Return |image - reconstruction| without grain, the mean of two reconstructions: float32 [N, S, S]."""
        side = images.shape[1]
        if not len(images):
            return np.zeros((0, side, side), np.float32)
        made = [self.reconstruct(images, planes, k) for k in range(_REPEATS)]
        changes = [gaussian_filter(m.astype(np.float32) - images, (0, _GRAIN_PX, _GRAIN_PX)) for m in made]
        found: Floats = np.mean(np.abs(changes), axis=0).astype(np.float32)
        return found

    def reconstruct(self, images: Images, planes: npt.NDArray[np.str_], repeat: int = 0) -> Images:
        """Return the normal reconstructions uint8 [N, S, S]; each image's noise depends on its own pixels alone."""
        layouts = outlines_alone(self.guide, images, planes)
        start = self.params.reconstruction_time
        times, codes = time_grid(self.params.reconstruction_steps, start), Codes(self.generator, _BATCH)
        denoiser, parts = self.generator.denoiser, []
        device = next(denoiser.parameters()).device
        channels, inner, _ = denoiser.shape(self.generator.size)
        for first in range(0, len(images), _BATCH):
            chosen = [min(i, len(images) - 1) for i in range(first, first + _BATCH)]  # padded: rows must not differ
            seeds = [derive_seed(self.seed, "reconstruct", repeat, images[i].tobytes().hex()[:256]) for i in chosen]
            with torch.no_grad():
                clean = denoiser.encode(to_signal(images[chosen]).to(device))
                fresh = noise(seeds, inner, channels).to(device)
                x = interpolate(clean, fresh, torch.full((_BATCH,), start, device=device))
                field = guided(codes, [layouts[i] for i in chosen], [None] * _BATCH, 1.0)
                parts.append(to_pixels(denoiser.decode(euler(field, x, times.to(device)))))
        return np.concatenate(parts)[: len(images)]


@dataclass(frozen=True, eq=False)
class NormalResiduals:
    """Mean and standard deviation [S, S] of the residuals of real normal images."""

    mean: Floats
    deviation: Floats

    @staticmethod
    def of(residuals: Floats) -> NormalResiduals:
        """Fit to the residuals [N, S, S] of real normal training images."""
        smooth = gaussian_filter(residuals, (0, _SMOOTH_PX, _SMOOTH_PX))
        return NormalResiduals(smooth.mean(0), smooth.std(0) + 1.0)

    def heat(self, residuals: Floats) -> Floats:
        """Return by how many deviations each pixel is further off than in normal images: float32 [N, S, S]."""
        smooth = gaussian_filter(residuals, (0, _SMOOTH_PX, _SMOOTH_PX))
        found: Floats = ((smooth - self.mean) / self.deviation).astype(np.float32)
        return found


def image_scores(heat: Floats) -> Floats:
    """Return the mean of each map's hottest 2 %: float32 [N]."""
    if not len(heat):
        return np.zeros(0, np.float32)
    flat = np.sort(heat.reshape(len(heat), -1), axis=1)
    found: Floats = flat[:, -max(1, round(_HOTTEST * flat.shape[1])) :].mean(1)
    return found


def outlines_alone(guide: Segmenter, images: Images, planes: npt.NDArray[np.str_]) -> list[Layout]:
    """Return, per image, a layout of its plane with the largest structure that the guide sees, and nothing else."""
    side, numbers = images.shape[1], np.array([plane_index(str(p)) for p in planes], np.int64)
    largest: dict[int, LayoutObject] = {}
    areas: dict[int, int] = {}
    for found in predicted_structures(guide.predict(images), numbers, _SURE):
        area = int(found.mask.sum())
        if area > areas.get(found.image, 0):
            box = tuple(v / side for v in found.box)
            areas[found.image] = area
            largest[found.image] = LayoutObject(found.structure, box, found.mask)
    return [Layout(str(plane), "image", 1.0, (largest[i],) if i in largest else ()) for i, plane in enumerate(planes)]
