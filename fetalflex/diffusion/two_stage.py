"""Two-stage adaptive sampling: a coarse image from noise, then refinement as far as each image needs it.

Every image draws from (seed, its id), runs in fp32 and in batches of constant, padded size: its bytes do not
depend on its company. Agreement is always with the *asked* layout; the adapted one is returned beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fetalflex.anatomy.layout import Layout, Mask
from fetalflex.diffusion.agreement import adapt, agreement
from fetalflex.diffusion.objective import interpolate
from fetalflex.diffusion.repaint import Canvas, compose, grow, repaint
from fetalflex.diffusion.solver import euler, noise, time_grid, time_grids
from fetalflex.errors import LayoutError, ModelError
from fetalflex.masks.segmenter import Segmenter
from fetalflex.model.batches import to_pixels, to_signal
from fetalflex.model.condition import Condition, condition_from_layouts, null_condition
from fetalflex.model.generator import Generator
from fetalflex.params import Sample
from fetalflex.rng import derive_seed

Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class SampleRequest:
    """One image that is asked for. With a reference uint8 [S, S], only `region` bool [S, S] is generated."""

    image_id: str
    layout: Layout
    reference: Pixels | None = None
    region: Mask | None = None


@dataclass(frozen=True, eq=False)
class SampleResult:
    """One image: final and coarse uint8 [S, S], the layout as adapted, and what it took.

    `evaluations` counts the denoiser's (guided) predictions; `agreement` and `coarse_agreement` are the guide's mean
    Dice with the asked layout, NaN where nothing asked is known to the guide; `region` is what was generated, None
    for all.
    """

    image_id: str
    image: Pixels
    coarse: Pixels
    adapted: Layout
    evaluations: int
    coarse_agreement: float
    agreement: float
    region: Mask | None = None


def sample_images(
    generator: Generator, guide: Segmenter, requests: Sequence[SampleRequest], params: Sample, seed: int
) -> list[SampleResult]:
    """Return one result per request, in their order.

    Raises: LayoutError for a request that cannot be; ModelError where `guide` is the judge: sampling must not see it.
    """
    if guide.role != "guide":
        raise ModelError(f"sampling may use the segmenter 'guide' alone; found {guide.role!r}")
    _check(requests, generator.size)
    sampler = _Sampler(generator, guide, params, seed)
    plain = [i for i, r in enumerate(requests) if r.reference is None]
    edits = [i for i, r in enumerate(requests) if r.reference is not None]
    results: dict[int, SampleResult] = {}
    for positions in (plain, edits):
        states = sampler.coarse([requests[i] for i in positions])
        states = sampler.fine(states)
        results |= {i: state.result() for i, state in zip(positions, states, strict=True)}
    return [results[i] for i in range(len(requests))]


@dataclass(frozen=True, eq=False)
class _State:
    """An image on its way: the best so far and what it took."""

    request: SampleRequest
    region: Mask | None
    image: Pixels
    coarse: Pixels
    adapted: Layout
    evaluations: int
    coarse_agreement: float
    agreement: float
    rounds: int = 0

    def result(self) -> SampleResult:
        return SampleResult(
            self.request.image_id, self.image, self.coarse, self.adapted, self.evaluations,
            self.coarse_agreement, self.agreement, self.region,
        )  # fmt: skip


class _Sampler:
    def __init__(self, generator: Generator, guide: Segmenter, params: Sample, seed: int) -> None:
        self.generator, self.guide, self.params, self.seed = generator, guide, params, seed
        self.device = next(generator.denoiser.parameters()).device

    def coarse(self, requests: Sequence[SampleRequest]) -> list[_State]:
        """Few steps from noise (or, with a reference, repainting), then scores and outlines."""
        states = []
        for chunk in _chunks(requests, self.params.batch_size):
            real, padded = len(chunk), _padded(chunk, self.params.batch_size)
            layouts, regions = [r.layout for r in padded], [self._region(r) for r in padded]
            model = self._velocity(layouts)
            if padded[0].reference is None:
                pixels = to_pixels(euler(model, self._noise(padded, "coarse"), time_grid(self.params.coarse_steps)))
                spent = self.params.coarse_steps
            else:
                pixels, spent = self._repaint(model, padded, regions)
            chances = self.guide.predict(pixels)
            for i, request in enumerate(padded[:real]):
                score = agreement(chances[i], request.layout, self.guide.trained)
                adapted = adapt(request.layout, pixels[i], chances[i])
                states.append(
                    _State(request, regions[i], pixels[i], pixels[i], adapted, spent, score, score)
                )  # fmt: skip
        return states

    def fine(self, states: list[_State]) -> list[_State]:
        """Refine, round by round, the images that do not agree yet and have budget left."""
        while open_ := [i for i, state in enumerate(states) if self._goes_on(state)]:
            for chunk in _chunks(open_, self.params.batch_size):
                refined = self._refine([states[i] for i in chunk])
                for i, state in zip(chunk, refined, strict=True):
                    states[i] = state
        return states

    def _goes_on(self, state: _State) -> bool:
        used = state.rounds * self.params.fine_steps
        return state.agreement < self.params.agreement and used + self.params.fine_steps <= self.params.fine_budget

    def _refine(self, states: list[_State]) -> list[_State]:
        """Noise each image to a time chosen from its disagreement and denoise it under its adapted layout."""
        padded = _padded(states, self.params.batch_size)
        low, high = self.params.fine_time
        starts = torch.tensor([high + (low - high) * s.agreement for s in padded], device=self.device)
        clean = to_signal(np.stack([s.image for s in padded])).to(self.device)
        fresh = self._noise([s.request for s in padded], "fine", [s.rounds for s in padded])
        model = self._velocity([s.adapted for s in padded])
        x = euler(model, interpolate(clean, fresh, starts), time_grids(self.params.fine_steps, starts.cpu()))
        pixels = to_pixels(x)
        for i, s in enumerate(padded):
            if s.region is not None and s.request.reference is not None:
                pixels[i] = compose(pixels[i], s.request.reference, s.region)
        chances = self.guide.predict(pixels)
        return [self._better(s, pixels[i], chances[i]) for i, s in enumerate(states)]

    def _better(self, state: _State, pixels: Pixels, chances: npt.NDArray[np.float32]) -> _State:
        """Return the state after a round; one that made things worse costs its evaluations and changes nothing else."""
        layout = state.request.layout
        score = agreement(chances, layout, self.guide.trained)
        spent = replace(state, rounds=state.rounds + 1, evaluations=state.evaluations + self.params.fine_steps)
        if not score > state.agreement:
            return spent
        return replace(spent, image=pixels, agreement=score, adapted=adapt(layout, pixels, chances))

    def _repaint(
        self, model: Callable[[Tensor, Tensor], Tensor], requests: list[SampleRequest], regions: list[Mask | None]
    ) -> tuple[Pixels, int]:
        references = np.stack([r.reference for r in requests if r.reference is not None])
        kept = np.stack([m for m in regions if m is not None])
        canvas = Canvas(to_signal(references).to(self.device), torch.from_numpy(kept)[:, None].float().to(self.device))
        times = time_grid(self.params.coarse_steps)
        x = repaint(
            model, canvas, times, self.params.repaint_jumps, lambda what, step: self._noise(requests, what, step)
        )
        jumps = self.params.repaint_jumps
        pixels = np.stack([compose(p, r, m) for p, r, m in zip(to_pixels(x), references, kept, strict=True)])
        return pixels, (1 + jumps) * self.params.coarse_steps - jumps

    def _region(self, request: SampleRequest) -> Mask | None:
        return None if request.region is None else grow(request.region, self.params.repaint_margin_px)

    def _noise(self, requests: Sequence[SampleRequest], purpose: str, step: int | list[int] = 0) -> Tensor:
        steps = step if isinstance(step, list) else [step] * len(requests)
        seeds = [derive_seed(self.seed, r.image_id, purpose, k) for r, k in zip(requests, steps, strict=True)]
        return noise(seeds, self.generator.size).to(self.device)

    def _velocity(self, layouts: Sequence[Layout]) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the guided velocity field under these layouts; the condition is encoded once for all steps.

        v = v_null + g (v_cond - v_null). Source: Ho & Salimans 2022 (arXiv 2207.12598), equation 6 with w = g - 1.
        """
        asked = condition_from_layouts(layouts, self.generator.vocabulary, self.generator.size).to(self.device)
        guided = self.params.guidance != 1.0
        denoiser = self.generator.denoiser
        with torch.no_grad():
            code = denoiser.layout_encoder(Condition.join([asked, null_condition(asked)]) if guided else asked)

        @torch.no_grad()
        def field(x: Tensor, t: Tensor) -> Tensor:
            if not guided:
                return denoiser.predict(x, t, code)
            with_, without = denoiser.predict(torch.cat([x, x]), torch.cat([t, t]), code).chunk(2)
            return without + self.params.guidance * (with_ - without)

        return field


def _check(requests: Sequence[SampleRequest], size: int) -> None:
    for request in requests:
        if (request.reference is None) != (request.region is None):
            raise LayoutError(f"{request.image_id}: a reference image and its region go together; found one of them")
        for name, array in (("reference", request.reference), ("region", request.region)):
            if array is not None and array.shape != (size, size):
                raise LayoutError(f"{request.image_id}: {name} is {array.shape}; expected {(size, size)}")


def _chunks(items: Sequence[T], size: int) -> list[list[T]]:
    return [list(items[i : i + size]) for i in range(0, len(items), size)]


def _padded(items: list[T], size: int) -> list[T]:
    return items + [items[-1]] * (size - len(items))
