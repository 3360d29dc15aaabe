"""Two-stage adaptive sampling: a coarse image from noise, then refinement as far as each image needs it.

Every image draws from (seed, its id), runs in fp32 and in batches of constant, padded size: its bytes do not
depend on its company. Agreement is always with the *asked* layout; the adapted one is returned beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Generator as Steps
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from fetalflex.anatomy.layout import Layout, Mask
from fetalflex.diffusion.agreement import adapt, agreement
from fetalflex.diffusion.checkerboard import without_checkerboard
from fetalflex.diffusion.echogenicity import anechoic, fluid_regions
from fetalflex.diffusion.guidance import Codes, guided, steered, wanted
from fetalflex.diffusion.objective import Velocity, interpolate
from fetalflex.diffusion.repaint import Canvas, compose, grow, merge, repaint_cost, repaint_steps, repainting
from fetalflex.diffusion.sector import fitting_sectors, in_sector
from fetalflex.diffusion.solver import SOLVERS, Keep, Step, noise, time_grid, time_grids
from fetalflex.errors import LayoutError, ModelError
from fetalflex.masks.segmenter import Segmenter
from fetalflex.model.batches import to_pixels, to_signal
from fetalflex.model.denoiser import Backbone
from fetalflex.model.generator import Generator
from fetalflex.model.sectors import Outline
from fetalflex.params import Sample
from fetalflex.rng import derive_seed

Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class SampleRequest:
    """One image that is asked for. With a reference uint8 [S, S], only `region` bool [S, S] is generated.

    `avoided`: a layout that the image must not follow; guidance then points away from it instead of from the null
    condition, so that what the two layouts differ in, an absent structure say, is asked with emphasis.
    """

    image_id: str
    layout: Layout
    reference: Pixels | None = None
    region: Mask | None = None
    avoided: Layout | None = None


@dataclass(frozen=True, eq=False)
class SampleResult:
    """One image: final and coarse uint8 [S, S], the layout as adapted, and what it took.

    `evaluations` counts the denoiser's (guided) predictions; `agreement` and `coarse_agreement` are the guide's mean
    Dice with the asked layout, NaN where nothing asked is known to the guide; `region` is what was generated, None
    for all; `rounds` counts those of the fine stage.
    """

    image_id: str
    image: Pixels
    coarse: Pixels
    adapted: Layout
    evaluations: int
    coarse_agreement: float
    agreement: float
    region: Mask | None = None
    rounds: int = 0


@dataclass(frozen=True, eq=False)
class SampleStep:
    """How far a batch is: its stage, and the network evaluations of that stage so far, `most` at most.

    `look` decodes what the batch's images would be if it ended here: uint8 [B, S, S]. `results`: the last step's alone.
    """

    stage: Literal["coarse", "fine"]
    done: int
    most: int
    look: Callable[[], Pixels]
    results: tuple[SampleResult, ...] | None = None


def sample_images(
    generator: Generator, guide: Segmenter, requests: Sequence[SampleRequest], params: Sample, seed: int
) -> list[SampleResult]:
    """Return one result per request, in their order. Raises: as `sample_steps`."""
    results: tuple[SampleResult, ...] = ()
    for step in sample_steps(generator, guide, requests, params, seed):
        results = step.results or ()
    return list(results)


def sample_steps(
    generator: Generator, guide: Segmenter, requests: Sequence[SampleRequest], params: Sample, seed: int
) -> Iterator[SampleStep]:
    """Yield after every step of every batch; the last one brings a result per request, in their order.

    All requests are checked before the first is computed. Who stops asking stops the work.
    Raises: LayoutError for a request that cannot be; ModelError where `guide` is the judge (sampling must not see
    it), or for a center that the generator does not know.
    """
    if guide.role != "guide":
        raise ModelError(f"sampling may use the segmenter 'guide' alone; found {guide.role!r}")
    for name in ("steering", "darkening"):
        if getattr(params, name) and generator.denoiser.shape(generator.size)[0] != 1:
            raise ModelError(f"{name} needs a generator of pixels; expected sample.{name} 0 for one of latents")
    check_requests(requests, generator)
    sampler = _Sampler(generator, guide, params, seed)
    states = yield from sampler.fine((yield from sampler.coarse(requests)))
    results = tuple(state.result() for state in states)
    spent = max((r.rounds for r in results), default=0) * params.fine_steps
    yield SampleStep("fine", spent, spent, lambda: np.stack([r.image for r in results]), results)


def stream_images(
    generator: Generator, guide: Segmenter, requests: Sequence[SampleRequest], params: Sample, seed: int
) -> Iterator[SampleResult]:
    """Yield the results of `sample_images` in order, each batch as soon as it is there."""
    for chunk in _chunks(requests, params.batch_size):
        yield from sample_images(generator, guide, chunk, params, seed)


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
            self.coarse_agreement, self.agreement, self.region, self.rounds,
        )  # fmt: skip


class _Field:
    """A velocity that may be exchanged between two steps of one path."""

    def __init__(self, velocity: Velocity) -> None:
        self.velocity = velocity

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.velocity(x, t)


class _Sampler:
    def __init__(self, generator: Generator, guide: Segmenter, params: Sample, seed: int) -> None:
        self.generator, self.guide, self.params, self.seed = generator, guide, params, seed
        self.denoiser, self.codes = generator.denoiser, Codes(generator, params.batch_size)
        self.device = next(self.denoiser.parameters()).device

    def coarse(self, requests: Sequence[SampleRequest]) -> Steps[SampleStep, None, list[_State]]:
        """Few steps from noise (or, with a reference, repainting), then scores and outlines."""
        states: dict[int, _State] = {}
        for edits in (False, True):  # they differ in their number of steps
            positions = [i for i, r in enumerate(requests) if (r.reference is not None) == edits]
            for chunk in _chunks(positions, self.params.batch_size):
                batch = _padded([requests[i] for i in chunk], self.params.batch_size)
                regions = [self._region(r) for r in batch]
                way = self._repainted(batch, regions) if edits else self._from_noise(batch)
                x, spent = yield from self._shown("coarse", way, batch, regions)
                pixels = self._pixels(x, batch, regions)
                chances = self.guide.predict(pixels)
                for row, i in enumerate(chunk):
                    score = agreement(chances[row], batch[row].layout, self.guide.trained)
                    adapted = self._adapt(batch[row].layout, pixels[row], chances[row])
                    states[i] = _State(
                        batch[row], regions[row], pixels[row], pixels[row], adapted, spent, score, score
                    )  # fmt: skip
        return [states[i] for i in range(len(requests))]

    def _shown(
        self,
        stage: Literal["coarse", "fine"],
        way: Steps[tuple[Step, int], None, tuple[Tensor, int]],
        batch: list[SampleRequest],
        regions: list[Mask | None],
    ) -> Steps[SampleStep, None, tuple[Tensor, int]]:
        """Yield a way's steps as a user sees them; return where it ends and its evaluations."""
        done = 0
        while True:
            try:
                step, most = next(way)
            except StopIteration as end:
                found: tuple[Tensor, int] = end.value
                return found
            done += 1
            clean = step.clean
            yield SampleStep(stage, done, most, lambda clean=clean: self._pixels(clean, batch, regions))  # type: ignore[misc]

    def _from_noise(self, batch: list[SampleRequest]) -> Steps[tuple[Step, int], None, tuple[Tensor, int]]:
        """Integrate from noise; from `adapt_time` on under the outlines that the predicted clean image shows."""
        count = self.params.coarse_steps
        times, layouts = time_grid(count), [r.layout for r in batch]
        early = int((times >= self.params.adapt_time).sum()) - 1
        coarse = any(o.is_box for layout in layouts for o in layout.objects)
        field, x = _Field(self._field(batch, self._outlined(batch))), self._noise(batch, "coarse")
        for done, step in enumerate(self._solve(field, x, times), 1):
            x = step.x
            # The step's own velocity predicts the clean image: looking at it costs no evaluation.
            if done == early < count and coarse:
                pixels = to_pixels(self.denoiser.decode(step.clean))
                chances = self.guide.predict(pixels)
                seen = [self._adapt(*parts) for parts in zip(layouts, pixels, chances, strict=True)]
                field.velocity = self._field(batch, seen)
            yield step, count
        return x, count

    def _repainted(
        self, batch: list[SampleRequest], regions: list[Mask | None]
    ) -> Steps[tuple[Step, int], None, tuple[Tensor, int]]:
        jumps = self.params.repaint_jumps
        steps = repaint_steps(self.params.coarse_steps, jumps, self.params.budget)
        cost, canvas = repaint_cost(steps, jumps), self._canvas(batch, regions)
        field, x = self._field(batch, self._outlined(batch)), canvas.reference
        for step in repainting(
            field, canvas, time_grid(steps), jumps, lambda what, k: self._noise(batch, what, k), self._solve
        ):
            x = step.x
            yield step, cost
        return x, cost

    def fine(self, states: list[_State]) -> Steps[SampleStep, None, list[_State]]:
        """Refine, round by round, the images that do not agree yet and have budget left; only they are computed."""
        while open_ := [i for i, state in enumerate(states) if self._goes_on(state)]:
            for chunk in _chunks(open_, self.params.batch_size):
                padded = _padded([states[i] for i in chunk], self.params.batch_size)
                batch, regions = [s.request for s in padded], [s.region for s in padded]
                x, _ = yield from self._shown("fine", self._refine(padded), batch, regions)
                pixels = self._pixels(x, batch, regions)
                chances = self.guide.predict(pixels)
                refined = [self._better(states[i], pixels[row], chances[row]) for row, i in enumerate(chunk)]
                for i, state in zip(chunk, refined, strict=True):
                    states[i] = state
        return states

    def _goes_on(self, state: _State) -> bool:
        fits = state.evaluations + self.params.fine_steps <= self.params.budget
        return fits and state.agreement < self.params.agreement

    def _refine(self, padded: list[_State]) -> Steps[tuple[Step, int], None, tuple[Tensor, int]]:
        """Noise each image to a time chosen from its disagreement and denoise it under its adapted layout."""
        batch, regions, layouts = [s.request for s in padded], [s.region for s in padded], [s.adapted for s in padded]
        low, high = self.params.fine_time
        starts, count = torch.tensor([high + (low - high) * s.agreement for s in padded]), self.params.fine_steps
        clean = self._encoded(np.stack([s.image for s in padded]))
        fresh = self._noise(batch, "fine", [s.rounds for s in padded])
        canvas = self._canvas(batch, regions)

        def keep(x: Tensor, t: Tensor) -> Tensor:
            return merge(x, interpolate(canvas.reference, fresh, t), canvas.region)

        x = interpolate(clean, fresh, starts.to(self.device))
        plain = self._field(batch, layouts)
        field = _Field(plain)
        if self.params.steering and count > 1:
            aim = wanted(layouts, self.guide.trained, self.generator.size)
            field.velocity = steered(plain, self.guide, aim, self.params.steering)
        for done, step in enumerate(self._solve(field, x, time_grids(count, starts), keep), 1):
            x = step.x
            if done == count - 1:
                # The denoiser alone takes the last step: no trace of the gradient is left in the image.
                field.velocity = plain
            yield step, count
        return x, count

    def _solve(self, field: Velocity, x: Tensor, times: Tensor, keep: Keep | None = None) -> Iterator[Step]:
        return SOLVERS[self.params.solver](field, x, times, keep)

    def _better(self, state: _State, pixels: Pixels, chances: npt.NDArray[np.float32]) -> _State:
        """Return the state after a round; one that made things worse costs its evaluations and changes nothing else."""
        layout = state.request.layout
        score = agreement(chances, layout, self.guide.trained)
        spent = replace(state, rounds=state.rounds + 1, evaluations=state.evaluations + self.params.fine_steps)
        if not score > state.agreement:
            return spent
        return replace(spent, image=pixels, agreement=score, adapted=self._adapt(layout, pixels, chances))

    def _outlined(self, batch: list[SampleRequest]) -> list[Layout]:
        """Return what is asked of the first steps, when no image shows an outline yet."""
        layouts, size = [r.layout for r in batch], self.generator.size
        return [self.guide.outlines.drawn(a, size) for a in layouts] if self.params.typical_outlines else layouts

    def _adapt(self, layout: Layout, pixels: Pixels, chances: npt.NDArray[np.float32]) -> Layout:
        return adapt(layout, pixels, chances, self.guide.outlines if self.params.typical_outlines else None)

    def _field(self, batch: list[SampleRequest], layouts: list[Layout]) -> Velocity:
        params = self.params
        avoided, how = [r.avoided for r in batch], (params.guidance, params.guidance_until, params.guidance_rescale)
        field = guided(self.codes, layouts, avoided, *how)
        if params.darkening:
            fluid = fluid_regions([r.layout for r in batch], self.generator.size)
            field = anechoic(field, fluid.to(self.device), params.darkening, self.denoiser.patch)
        return in_sector(field, [self._sectors(r) for r in batch])

    def _sectors(self, request: SampleRequest) -> list[Outline]:
        """Return the fields of view that an image may have; none where it has a reference's, or is one of latents."""
        pixels = self.denoiser.shape(self.generator.size)[0] == 1
        if not (self.params.real_sectors and pixels and request.reference is None):
            return []
        return fitting_sectors(self.generator.sectors.known(request.layout.center), request.layout)

    def _canvas(self, batch: list[SampleRequest], regions: list[Mask | None]) -> Canvas:
        """Return references and regions; an image without a reference may change everywhere."""
        blank = np.zeros((self.generator.size,) * 2, np.uint8)
        references = np.stack([blank if r.reference is None else r.reference for r in batch])
        free = np.stack([np.ones_like(blank, bool) if m is None else m for m in regions])
        region, reference = torch.from_numpy(free)[:, None].float(), self._encoded(references)
        if region.shape[-1] != reference.shape[-1]:  # latents: a place may change where any of its pixels may
            region = adaptive_max_pool2d(region, reference.shape[-1])
        return Canvas(reference, region.to(self.device))

    @torch.no_grad()
    def _encoded(self, pixels: Pixels) -> Tensor:
        return self.denoiser.encode(to_signal(pixels).to(self.device))

    def _pixels(self, x: Tensor, batch: list[SampleRequest], regions: list[Mask | None]) -> Pixels:
        """Return uint8 [B, S, S]; outside its region an edit has the bytes of its reference."""
        pixels = decoded(self.denoiser, x, self.params)
        for i, (request, region) in enumerate(zip(batch, regions, strict=True)):
            if request.reference is not None and region is not None:
                pixels[i] = compose(pixels[i], request.reference, region, self.params.repaint_margin_px)
        return pixels

    def _region(self, request: SampleRequest) -> Mask | None:
        return None if request.region is None else grow(request.region, self.params.repaint_margin_px)

    def _noise(self, requests: Sequence[SampleRequest], purpose: str, step: int | list[int] = 0) -> Tensor:
        steps = step if isinstance(step, list) else [step] * len(requests)
        seeds = [derive_seed(self.seed, r.image_id, purpose, k) for r, k in zip(requests, steps, strict=True)]
        channels, side, _ = self.denoiser.shape(self.generator.size)
        return noise(seeds, side, channels).to(self.device)


def decoded(denoiser: Backbone, x: Tensor, params: Sample) -> Pixels:
    """Return clean x [B, C, s, s] as uint8 [B, S, S], without the mesh of patches where `params` say so."""
    images = denoiser.decode(x)
    if params.remove_checkerboard and x.shape[1] == 1:  # a patch of latents is none of pixels
        images = without_checkerboard(images, denoiser.patch)
    return to_pixels(images)


def check_requests(requests: Sequence[SampleRequest], generator: Generator) -> None:
    """Check that every request can be met, before anything is computed.

    Raises: LayoutError for a reference without a region (or the other way round), of another size or type than the
    generator's images, an empty region, an avoided layout on another canvas; ModelError for an unknown center.
    """
    for request in requests:
        name, layout = request.image_id, request.layout
        if (request.reference is None) != (request.region is None):
            raise LayoutError(f"{name}: a reference image and its region go together; found one of them")
        _check_array(name, "reference", request.reference, (generator.size, np.uint8))
        _check_array(name, "region", request.region, (generator.size, np.bool_))
        if request.region is not None and not request.region.any():
            raise LayoutError(f"{name}: the region is empty; expected at least one pixel that may change")
        other = request.avoided
        if other is not None and (other.unit, other.extent) != (layout.unit, layout.extent):
            raise LayoutError(
                f"{name}: the avoided layout has a canvas of {other.extent:g} {other.unit}; expected that of the asked "
                f"one, {layout.extent:g} {layout.unit}"
            )
        for center in {layout.center, None if other is None else other.center} - {None, *generator.vocabulary}:
            known = ", ".join(generator.vocabulary)
            raise ModelError(f"{name}: center {center!r} is unknown to the model; expected one of {known}")


def _check_array(image_id: str, name: str, array: npt.NDArray[np.generic] | None, expected: tuple[int, type]) -> None:
    size, kind = expected
    if array is not None and (array.shape != (size, size) or array.dtype != kind):
        raise LayoutError(
            f"{image_id}: {name} is {array.dtype} {array.shape}; expected {np.dtype(kind)} {(size, size)}"
        )


def _chunks(items: Sequence[T], size: int) -> list[list[T]]:
    return [list(items[i : i + size]) for i in range(0, len(items), size)]


def _padded(items: list[T], size: int) -> list[T]:
    return items + [items[-1]] * (size - len(items))
