"""What repeats with a denoiser's patches, whatever the anatomy, is the network's and no tissue's.

A network that predicts p x p pixels at once has channels for each of them that do not agree to the last grey level. In
smooth tissue the eye sees that as a mesh of the patches' period.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_REACH = 3.0  # patches: the standard deviation of the neighbourhood over which a pattern must repeat
_BLACK = -1 + 1 / 255  # up to half a grey level
_FAINT = 0.06  # of the half range: nearly four grey levels. What stands out more is an edge or a speckle
_FEW = 0.05  # added to the share of faint pixels around: where they are few, their mean is believed less


def without_checkerboard(images: Tensor, patch: int) -> Tensor:
    """Return images [B, 1, S, S] in [-1, 1] without the faint pattern of period `patch` (pixels; 1: none) in them.

    The pattern is the mean, per place in the patch, of what a window that no such period passes leaves out, over
    faint pixels of the neighbourhood. Its mean over a patch is 0. Black (no echo) stays black. An image depends
    on itself alone.
    Source: our own; the artefact is known from up-sampling networks (Odena et al. 2016, Deconvolution and Checkerboard
    Artifacts, Distill, doi:10.23915/distill.00003).
    """
    if patch == 1:
        return images
    left_out, echo = images - plain(images, patch), images > _BLACK
    counts = (echo & (left_out.abs() <= _FAINT)).to(images)
    places = [F.pixel_unshuffle(part, patch) for part in (left_out * counts, counts)]
    total, share = (_blurred(part, _REACH) for part in places)
    pattern = total / (share + _FEW)
    pattern = F.pixel_shuffle(pattern - pattern.mean(1, keepdim=True), patch)
    return torch.where(echo, images - pattern, images)


def plain(images: Tensor, patch: int) -> Tensor:
    """Return images under a triangular window that no pattern of period `patch` passes."""
    near, far = patch // 2, (patch - 1) // 2
    once = F.avg_pool2d(F.pad(images, (near, far) * 2, mode="replicate"), patch, 1)
    return F.avg_pool2d(F.pad(once, (far, near) * 2, mode="replicate"), patch, 1)


def _blurred(maps: Tensor, deviation: float) -> Tensor:
    """Return maps [B, C, s, s] under a Gaussian of that standard deviation; beyond the border lies nothing."""
    reach, channels = round(3 * deviation), maps.shape[1]
    along = torch.arange(-reach, reach + 1, device=maps.device, dtype=maps.dtype)
    weight = torch.softmax(-0.5 * (along / deviation).square(), 0).repeat(channels, 1, 1, 1)
    across = F.conv2d(maps, weight, padding=(0, reach), groups=channels)
    return F.conv2d(across, weight.transpose(2, 3), padding=(reach, 0), groups=channels)
