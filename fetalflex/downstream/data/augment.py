"""What training images go through: the light moves of every arm, and the strong classic ones of the rival arm.

All randomness comes from the caller's generator; the arithmetic runs in torch on whole batches.
Source of cut and paste: Li et al. 2021 (arXiv 2104.04015).
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

Images = npt.NDArray[np.uint8]
Rng = np.random.Generator


def to_signal(images: Images) -> Tensor:
    """Return float32 [B, 1, S, S] in [-1, 1]."""
    return torch.from_numpy(images.astype(np.float32) / 127.5 - 1)[:, None]


def light(images: Images, rng: Rng) -> Tensor:
    """Return float32 [B, 1, S, S] in about [-1, 1]: mirrored, moved by up to 1/16, gain and offset varied."""
    side = images.shape[1]
    reach = max(1, side // 16)
    out = np.empty(images.shape, np.float32)
    for i, image in enumerate(images):
        turned = image[:, ::-1] if rng.random() < 0.5 else image
        dy, dx = rng.integers(0, 2 * reach + 1, size=2)
        padded = np.pad(turned, reach)
        gain, offset = rng.uniform(0.8, 1.2), rng.uniform(-0.1, 0.1)
        out[i] = (padded[dy : dy + side, dx : dx + side] / 127.5 - 1) * gain + offset
    return torch.from_numpy(out)[:, None]


def classic(images: Images, rng: Rng) -> Tensor:
    """Return float32 [B, 1, S, S] in about [-1, 1]: what augmentation without a generator can do.

    On top of the light moves: turned by up to 25 degrees, scaled by 0.75 to 1.3, sheared, gamma from 0.6 to 1.6, a gain
    that changes with depth, speckle, blur by resampling, and in every second image a blank rectangle.
    """
    x = light(images, rng)
    b, side = len(x), x.shape[-1]
    angle, scale = np.radians(rng.uniform(-25, 25, b)), rng.uniform(0.75, 1.3, b)
    shear = rng.uniform(-0.15, 0.15, b)
    rows = np.stack(
        [
            np.stack([np.cos(angle), -np.sin(angle) + shear, np.zeros(b)], 1) / scale[:, None],
            np.stack([np.sin(angle), np.cos(angle), np.zeros(b)], 1) / scale[:, None],
        ],
        axis=1,
    )
    grid = affine_grid(torch.from_numpy(rows).float(), list(x.shape), align_corners=False)
    unit = (grid_sample((x + 1) / 2, grid, align_corners=False)).clamp(0, 1)
    unit = unit ** torch.from_numpy(rng.uniform(0.6, 1.6, (b, 1, 1, 1))).float()
    depth = torch.linspace(-1, 1, side)[None, None, :, None]
    unit = unit * (1 + torch.from_numpy(rng.uniform(-0.3, 0.3, (b, 1, 1, 1))).float() * depth)
    grain = torch.from_numpy(rng.normal(1, 1, (b, 1, side, side))).float()
    unit = unit * (1 + torch.from_numpy(rng.uniform(0, 0.15, (b, 1, 1, 1))).float() * (grain - 1))
    for i in np.nonzero(rng.random(b) < 0.5)[0]:
        h, w = rng.integers(side // 8, side // 3 + 1, 2)
        top, left = rng.integers(0, side - h + 1), rng.integers(0, side - w + 1)
        unit[i, :, top : top + h, left : left + w] = float(rng.random()) * 0.5
    return unit.clamp(0, 1.2) * 2 - 1


def cut_and_paste(images: Images, rng: Rng) -> Images:
    """Return uint8 [B, S, S]: a patch of each image pasted elsewhere in it, the classic way to make an anomaly.

    The patch takes 2 to 15 % of the image, of a shape from 1:3 to 3:1, and its grey levels are jittered.
    """
    out, side = images.copy(), images.shape[1]
    for image in out:
        area, aspect = rng.uniform(0.02, 0.15) * side * side, np.exp(rng.uniform(-np.log(3), np.log(3)))
        h = int(np.clip(round(np.sqrt(area * aspect)), 2, side - 1))
        w = int(np.clip(round(np.sqrt(area / aspect)), 2, side - 1))
        (y0, y1), (x0, x1) = rng.integers(0, side - h + 1, 2), rng.integers(0, side - w + 1, 2)
        patch = image[y0 : y0 + h, x0 : x0 + w] * rng.uniform(0.7, 1.3)
        image[y1 : y1 + h, x1 : x1 + w] = np.clip(patch, 0, 255).astype(np.uint8)
    return out
