"""Pre-alignment: an image encoder and the layout encoder learn to agree before any diffusion training.

Three losses: an object's token and its image region agree (region-level InfoNCE), a layout and its image agree
(image-level), and the layout alone predicts what its regions coarsely look like.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import nan

import torch
import torch.nn.functional as F
from torch import Tensor

from fetalflex.dataset import Cases
from fetalflex.errors import ModelError
from fetalflex.model.aligner import APPEARANCE
from fetalflex.model.aligner import Aligner as Aligner
from fetalflex.model.batches import (
    Moves,
    Pictures,
    batch_positions,
    cases_digest,
    first_weights,
    seen_mean,
    step_random,
)  # fmt: skip
from fetalflex.model.checkpoint import digest_of
from fetalflex.model.condition import (
    NOT_ASKED,
    Condition,
    Described,
    Dropping,
    center_vocabulary,
    drop_conditions,
)  # fmt: skip
from fetalflex.model.denoiser import take_over
from fetalflex.model.layout_encoder import LayoutCode, LayoutEncoder, pool_regions
from fetalflex.model.loop import Loop, Plan, Where, check_device
from fetalflex.params import Prealign

_MOVES = Moves(flip=0.5, scale=0.08, shift=0.04)
_DROPPING = Dropping(layout=0.0, obj=0.1, to_box=0.4, modality=0.1)
_WARMUP = 20


@dataclass(frozen=True, eq=False)
class AlignStep:
    """One step of training, `step` counted from 1. `region_r1`, `image_r1`: rank-1 retrieval in the batch (NaN: empty).

    `trained` is the result, on the last step alone.
    """

    step: int
    loss: float
    region_r1: float
    image_r1: float
    appearance: float
    trained: Aligner | None = None


def new_aligner(cases: Cases, params: Prealign, patch: int, seed: int) -> Aligner:
    """Return an aligner as its training begins: untrained, with the centers of the cases."""
    with first_weights(step_random(seed, "aligner").initial_seed()):
        return Aligner(params, center_vocabulary([str(c) for c in cases.centers]), patch)


def train_aligner(
    cases: Cases, params: Prealign, patch: int, seed: int, where: Where | None = None
) -> Iterator[AlignStep]:
    """Train an aligner on all given cases; resumes from `where.state_dir`. `patch` is the generator's.

    Source: InfoNCE (van den Oord et al. 2018, arXiv 1807.03748), symmetric as in CLIP (Radford et al. 2021,
    arXiv 2103.00020).
    Raises: TooFewCasesError, ModelError for a checkpoint of another configuration.
    """
    where = where or Where()
    check_device(where.device)
    torch.set_num_threads(where.threads)
    aligner = new_aligner(cases, params, patch, seed)
    digest = digest_of(params, patch=patch, seed=seed, data=cases_digest(cases))
    yield from _train(aligner, cases, seed, digest, where)


def train_probe(
    cases: Cases, params: Prealign, encoder: LayoutEncoder, vocabulary: tuple[str, ...], seed: int
) -> Iterator[AlignStep]:
    """Train an aligner around a layout encoder that stays as it is: what can be retrieved with what it knows.

    The image encoder and all heads are trained as long, on the same batches, as those of `train_aligner`.
    Raises: ModelError where the encoder is not of the parameters' width.
    """
    if (encoder.config.width, encoder.config.hidden) != (params.embedding, params.hidden):
        raise ModelError(
            f"probe: expected a layout encoder of width {params.embedding} and hidden {params.hidden}; "
            f"found {encoder.config.width} and {encoder.config.hidden}"
        )
    with first_weights(step_random(seed, "aligner").initial_seed()):
        aligner = Aligner(params, vocabulary, int(encoder.config.patch))
    take_over(aligner.layout_encoder, encoder)
    aligner.layout_encoder.requires_grad_(False)
    yield from _train(aligner, cases, seed, "", Where())


def _train(aligner: Aligner, cases: Cases, seed: int, digest: str, where: Where) -> Iterator[AlignStep]:
    params = aligner.to(where.device).params
    learned = [p for p in aligner.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=params.learning_rate, weight_decay=0.01)
    plan = Plan(params.steps, params.learning_rate, _WARMUP, params.checkpoint_every, digest, where.state_dir)
    loop = Loop(aligner, optimizer, plan)
    pictures, described = Pictures(cases, _MOVES, where.device), Described(cases, aligner.vocabulary)
    if loop.done == params.steps:
        yield AlignStep(loop.done, nan, nan, nan, nan, aligner.eval())
    for step in loop.remaining():
        random = step_random(seed, "align", step)
        at = batch_positions(seed, step, len(cases), params.batch_size)
        images, maps, hidden = pictures.draw(at, random)
        asked = drop_conditions(described.at(torch.from_numpy(at), maps), _DROPPING, random)
        loss, figures = alignment_loss(aligner, images, asked, hidden)
        loop.update(step, loss)
        yield AlignStep(step + 1, float(loss.detach()), *figures, aligner.eval() if loop.is_last(step) else None)


def alignment_loss(
    aligner: Aligner, images: Tensor, asked: Condition, ignored: Tensor | None = None
) -> tuple[Tensor, tuple[float, float, float]]:
    """Return the losses' sum and (region rank-1, image rank-1, error of the look); see `train_aligner`.

    `ignored`: [B, 1, S, S], not 0 where a pixel is no target, or None.
    """
    code: LayoutCode = aligner.layout_encoder(asked)
    features = aligner.image_encoder(images)
    temperature = aligner.params.temperature
    whole, whole_r1 = _contrast(aligner.embed_images(features), aligner.embed_layouts(code.overall), temperature)
    coarse = F.pixel_unshuffle(F.avg_pool2d(images, 2), 2)  # [B, 4, S/4, S/4]: the image at half resolution
    side = coarse.shape[-1]
    spread = code.overall[..., None, None].expand(-1, -1, side, side)
    drawn = aligner.whole_look(torch.cat([F.adaptive_avg_pool2d(code.features, side), spread], 1))
    hidden = None if ignored is None else F.pixel_unshuffle(F.max_pool2d(ignored, 2), 2)
    drawing = _squared_error(drawn, coarse, hidden)
    region, region_r1 = _region_loss(aligner, (images, features, ignored), asked, code)
    return whole + drawing + region, (region_r1, whole_r1, float(drawing.detach()))


def _region_loss(
    aligner: Aligner, pictures: tuple[Tensor, Tensor, Tensor | None], asked: Condition, code: LayoutCode
) -> tuple[Tensor, float]:
    """Return the losses of the asked objects' tokens and regions, and the regions' rank-1 rate (NaN: none asked)."""
    images, features, ignored = pictures
    chosen = asked.kinds > NOT_ASKED
    if not chosen.any():
        return features.new_zeros(()), nan
    params, count = aligner.params, asked.kinds.shape[1]
    tokens = code.tokens[:, :count][chosen]
    regions, named = aligner.embed_regions(features, asked.boxes)[chosen], aligner.embed_tokens(tokens)
    loss, rank1 = _contrast(regions, named, params.temperature)
    if params.same_structure:
        structure = torch.arange(count, device=chosen.device).expand_as(chosen)[chosen]
        among = structure[:, None] == structure[None]
        hard, _ = _contrast(regions, named, params.temperature, among)
        loss = loss + params.same_structure * hard
    seen = pool_regions(images, asked.boxes, APPEARANCE).flatten(2)[chosen]
    under = None if ignored is None else pool_regions(ignored, asked.boxes, APPEARANCE).flatten(2)[chosen]
    return loss + _squared_error(aligner.region_look(tokens), seen, under), rank1


def _squared_error(guess: Tensor, target: Tensor, ignored: Tensor | None) -> Tensor:
    """Return the mean squared error of what counts; `ignored` has the shape of both, or is None."""
    if ignored is None:
        return F.mse_loss(guess, target)
    return seen_mean((guess - target).square(), ignored, tuple(range(guess.ndim)))


def _contrast(left: Tensor, right: Tensor, temperature: float, among: Tensor | None = None) -> tuple[Tensor, float]:
    """Return symmetric InfoNCE of rows [N, D] that belong together, and the rank-1 rate from right to left.

    `among`: bool [N, N], symmetric, true where two rows may be taken for one another; None: all.
    """
    scores = right @ left.T / temperature
    if among is not None:
        scores = scores.masked_fill(~among, -torch.inf)
    target = torch.arange(len(scores), device=scores.device)
    loss = (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2
    return loss, float((scores.argmax(1) == target).float().mean())
