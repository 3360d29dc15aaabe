"""What every training here shares: which cases a step sees, its random numbers, learning rate and augmentation.

All of it is a pure function of (seed, step), so that a resumed training needs no state of a random generator.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from fetalflex.dataset import TEXT, Cases
from fetalflex.errors import TooFewCasesError
from fetalflex.rng import derive_seed, generator


def batch_positions(seed: int, step: int, cases: int, batch: int) -> npt.NDArray[np.int64]:
    """Return the positions of the cases of a step, counted from 0: every case once per epoch, in a new order each.

    Raises: TooFewCasesError where there is no case at all.
    """
    if cases < 1:
        raise TooFewCasesError("training has no case; expected at least one in the group it may use")
    wanted = np.arange(step * batch, (step + 1) * batch)
    epochs = wanted // cases
    orders = {int(e): generator(seed, "epoch", int(e)).permutation(cases) for e in np.unique(epochs)}
    return np.array([orders[int(e)][p] for e, p in zip(epochs, wanted % cases, strict=True)], np.int64)


_FIRST_WEIGHTS = threading.Lock()


@contextmanager
def first_weights(seed: int) -> Iterator[None]:
    """Draw a network's first weights inside this block: they depend on `seed` alone.

    torch.nn draws them from the one global generator, which threads share: without the lock, two trainings that start
    side by side would draw from each other's stream.
    """
    with _FIRST_WEIGHTS, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def step_random(seed: int, *names: str | int) -> torch.Generator:
    """Return a CPU generator for (seed, names)."""
    return torch.Generator().manual_seed(derive_seed(seed, *names))


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Return the rate of a step: linear warm-up to `peak`, then half a cosine down to a twentieth of it.

    Source: Loshchilov & Hutter 2017, SGDR (arXiv 1608.03983), equation 5, one cycle.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def cases_digest(cases: Cases) -> str:
    """Return a SHA-256 over all arrays of the cases: a checkpoint belongs to the data it was trained on."""
    digest = hashlib.sha256()
    for item in fields(Cases):
        value = getattr(cases, item.name)
        content = "\0".join(map(str, value)).encode() if item.name in TEXT else np.ascontiguousarray(value).tobytes()
        digest.update(f"{item.name}:{value.shape}:".encode() + content)
    return digest.hexdigest()


def to_signal(images: npt.NDArray[np.uint8]) -> Tensor:
    """Return images uint8 [N, S, S] as float32 [N, 1, S, S] in [-1, 1]."""
    return torch.from_numpy(images.astype(np.float32) / 127.5 - 1.0)[:, None]


def to_pixels(signal: Tensor) -> npt.NDArray[np.uint8]:
    """Return signals [N, 1, S, S] in [-1, 1] as uint8 [N, S, S], rounded half to even and clipped."""
    scaled = (signal[:, 0].float() + 1.0) * 127.5
    pixels: npt.NDArray[np.uint8] = scaled.round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return pixels


@dataclass(frozen=True)
class Moves:
    """How far augmentation goes: rotation in degrees, scale and shift as fractions, the logarithm of gamma.

    Without rotation and scale, shifts are whole pixels and nothing is interpolated: a generator would learn the blur.
    """

    flip: float = 0.5
    rotation_deg: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    log_gamma: float = 0.0


def augment(signal: Tensor, maps: Tensor, moves: Moves, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Move images [B, 1, S, S] (in [-1, 1]) and maps [B, K, S, S] alike; return both, the maps again 0 or 1.

    What comes in from outside is black and belongs to no structure.
    """
    batch = signal.shape[0]

    def spread(limit: float) -> Tensor:
        return (2 * torch.rand(batch, generator=random) - 1) * limit

    mirror = torch.where(torch.rand(batch, generator=random) < moves.flip, -1.0, 1.0)
    angle, zoom = spread(math.radians(moves.rotation_deg)), 1.0 + spread(moves.scale)
    shift_x, shift_y, gamma = spread(2 * moves.shift), spread(2 * moves.shift), spread(moves.log_gamma).exp()
    if moves.log_gamma:
        signal = ((signal + 1) / 2).clamp(0, 1) ** gamma.to(signal.device)[:, None, None, None] * 2 - 1
    top = torch.stack([mirror * angle.cos() * zoom, -angle.sin() * zoom, shift_x], -1)
    low = torch.stack([mirror * angle.sin() * zoom, angle.cos() * zoom, shift_y], -1)
    theta = torch.stack([top, low], 1).to(signal.device)
    both = torch.cat([signal + 1, maps], 1)  # + 1: black is zero, as the padding
    if not (moves.rotation_deg or moves.scale):
        flipped = torch.where((mirror < 0).to(signal.device)[:, None, None, None], both.flip(-1), both)
        pixels = torch.stack([shift_y, shift_x], -1) * signal.shape[-1] / 2
        shifted = _shifted(flipped, pixels.round().long().to(signal.device)) if moves.shift else flipped
        return shifted[:, :1] - 1, shifted[:, 1:]
    grid = F.affine_grid(theta, list(both.shape), align_corners=False)
    moved = F.grid_sample(both, grid, align_corners=False, padding_mode="zeros")
    return moved[:, :1] - 1, (moved[:, 1:] > 0.5).float()


def _shifted(images: Tensor, pixels: Tensor) -> Tensor:
    """Return images [B, C, S, S] moved by whole pixels, int64 [B, 2] (up, left); what comes in is 0."""
    batch, _, height, width = images.shape
    reach = int(pixels.abs().amax())
    padded = F.pad(images, (reach,) * 4)
    rows = torch.arange(height, device=images.device) + pixels[:, :1] + reach
    columns = torch.arange(width, device=images.device) + pixels[:, 1:] + reach
    each = torch.arange(batch, device=images.device)[:, None, None]
    return padded[each, :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2).contiguous()


def augment_with(
    signal: Tensor, maps: Tensor, ignored: Tensor | None, moves: Moves, random: torch.Generator
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Move images, maps and what does not count (float [B, 1, S, S] or None) alike; see `augment`.

    A pixel that takes any part from an ignored one is ignored: where the move interpolates, the map is grown by one.
    """
    if ignored is None:
        return *augment(signal, maps, moves, random), None
    grown = F.max_pool2d(ignored, 3, 1, 1) if moves.rotation_deg or moves.scale else ignored
    moved, both = augment(signal, torch.cat([maps, grown], 1), moves, random)
    return moved, both[:, :-1], both[:, -1:]


class Pictures:
    """The images of cases and their maps, drawn in batches for a training.

    Only the structures that a batch shows are moved: most of the K maps are empty, and an empty map stays empty.
    On a GPU the cases lie in its memory (K S^2 bytes each): sending maps at every step would take longer than the step.
    """

    def __init__(self, cases: Cases, moves: Moves, device: torch.device | str = "cpu") -> None:
        self.device, self.moves = torch.device(device), moves
        self.shown: npt.NDArray[np.bool_] = np.asarray(cases.masks.any((2, 3)), bool)
        self.images, self.masks = self._held(cases.images), self._held(cases.masks)
        self.ignored = self._held(cases.ignored) if cases.ignored.any() else None

    def _held(self, values: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def draw(self, at: npt.NDArray[np.int64], random: torch.Generator) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the moved images [B, 1, S, S], maps [B, K, S, S] and pixels that do not count [B, 1, S, S] or None.

        `random` is drawn from on the CPU, so that every device makes the same moves.
        """
        rows = torch.from_numpy(at).to(self.device)
        shown = torch.from_numpy(np.flatnonzero(self.shown[at].any(0))).to(self.device)
        maps = self.masks[rows[:, None], shown[None]].float()
        hidden = None if self.ignored is None else self.ignored[rows][:, None].float()
        signal = (self.images[rows].float() / 127.5 - 1.0)[:, None]
        signal, moved, hidden = augment_with(signal, maps, hidden, self.moves, random)
        full = moved.new_zeros(len(at), self.masks.shape[1], *moved.shape[2:])
        full[:, shown] = moved
        return signal, full, hidden


def seen_mean(values: Tensor, ignored: Tensor | None, axes: tuple[int, ...]) -> Tensor:
    """Return the mean of values over axes without the places where `ignored` is not 0 (None: with all of them).

    0 where no place is left.
    """
    if ignored is None:
        return values.mean(axes)
    seen = (ignored == 0).expand_as(values).to(values.dtype)
    return (values * seen).sum(axes) / seen.sum(axes).clamp(min=1)
