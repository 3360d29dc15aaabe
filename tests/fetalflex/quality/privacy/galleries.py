"""Speckled discs, each of its own patient, and an encoder that blurs."""

import numpy as np
from scipy import ndimage

from fetalflex.quality.privacy.nearest import Gallery
from fetalflex.rng import generator


def pictures(n, seed, side=48):
    rng = generator(seed)
    rows, columns = np.mgrid[:side, :side]
    found = []
    for _ in range(n):
        x, y = rng.uniform(18, 30, 2)
        a, b = rng.uniform(10, 17, 2)
        disc = ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 < 1
        speckle = ndimage.gaussian_filter(rng.normal(size=(side, side)), 1.0) * 2
        found.append(((60 + 70 * disc) * (1 + 0.35 * speckle)).clip(0, 255))
    return np.array(found).astype(np.uint8).reshape(-1, side, side)


def gallery(n, seed, name):
    ids = np.array([f"{name}{i}" for i in range(n)])
    return Gallery(pictures(n, seed), ids, np.array([f"{name}-patient{i // 2}" for i in range(n)]))


class Blur:
    """Features: means over 8 x 8 blocks."""

    name = "blur"

    def features(self, images):
        side = images.shape[1] // 8
        return images.reshape(len(images), 8, side, 8, side).mean((2, 4)).reshape(len(images), -1).astype(np.float32)
