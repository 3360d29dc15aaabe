"""Retrieval figures of an aligner: how often the right image, layout or region is found among a few candidates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fetalflex.dataset import Cases
from fetalflex.model.aligner import Aligner
from fetalflex.model.batches import to_signal
from fetalflex.model.condition import NOT_ASKED, condition_from_cases
from fetalflex.quality.bootstrap import Interval, mean_interval
from fetalflex.rng import generator

TOP = (1, 5)
_BATCH = 32
_DRAWS = 1000
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """A rate in [0, 1] with its 95 % interval over patients, what guessing would reach, and the number of queries.

    All NaN where there is nothing to compare.
    """

    rate: Interval
    chance: float
    queries: int


def retrieve(aligner: Aligner, cases: Cases, seed: int, candidates: int = 16) -> dict[str, Found]:
    """Return the rates of layout -> image, image -> layout, token -> region and region -> token, at 1 and at 5.

    Each query has `candidates` of as many patients (fewer where there are not so many): its own, and others drawn
    once from (seed, the query). Regions compete with regions of the same structure alone: the structure's name, which
    both sides are told, finds nothing. A tie counts against the query.
    """
    images, layouts, regions, tokens, shown = _embed(aligner, cases)
    patients = np.char.add(np.char.add(cases.centers.astype(np.str_), "/"), cases.patients.astype(np.str_))
    ids = cases.ids.astype(np.str_)
    whole = [
        (i, _others(patients, ids, np.arange(len(cases)), i, (seed, "image", candidates))) for i in range(len(ids))
    ]
    parts = []
    for k in range(shown.shape[1]):
        having = np.flatnonzero(shown[:, k])
        draw = (seed, f"region-{k}", candidates)
        parts += [(int(i), k, _others(patients, ids, having, int(i), draw)) for i in having]
    ranks: dict[str, list[tuple[str, int, int]]] = {}
    for i, others in whole:
        at = [i, *others]
        _note(ranks, "layout_to_image", patients[i], layouts[i] @ images[at].T)
        _note(ranks, "image_to_layout", patients[i], images[i] @ layouts[at].T)
    for i, k, others in parts:
        at = [i, *others]
        _note(ranks, "token_to_region", patients[i], tokens[i, k] @ regions[at, k].T)
        _note(ranks, "region_to_token", patients[i], regions[i, k] @ tokens[at, k].T)
    names = ("layout_to_image", "image_to_layout", "token_to_region", "region_to_token")
    return {f"{name}_r{top}": _rate(ranks.get(name, []), top, seed) for name in names for top in TOP}


def _embed(aligner: Aligner, cases: Cases) -> tuple[Tensor, Tensor, Tensor, Tensor, npt.NDArray[np.bool_]]:
    """Return embeddings of images [N, D], layouts [N, D], regions [N, K, D], tokens [N, K, D], and what is asked."""
    rows: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        for start in range(0, len(cases), _BATCH):
            part = cases.take(np.arange(start, min(start + _BATCH, len(cases))))
            asked = condition_from_cases(part, aligner.vocabulary)
            code = aligner.layout_encoder(asked)
            features = aligner.image_encoder(to_signal(part.images))
            rows.append(
                (
                    aligner.embed_images(features), aligner.embed_layouts(code.overall),
                    aligner.embed_regions(features, asked.boxes),
                    aligner.embed_tokens(code.tokens[:, : asked.kinds.shape[1]]), asked.kinds > NOT_ASKED,
                )
            )  # fmt: skip
    if not rows:
        none = torch.zeros(0, 0)
        return none, none, none[..., None], none[..., None], np.zeros((0, 0), bool)
    images, layouts, regions, tokens, shown = (torch.cat(part) for part in zip(*rows, strict=True))
    return images, layouts, regions, tokens, shown.numpy()


def _others(
    patients: npt.NDArray[np.str_], ids: npt.NDArray[np.str_], among: npt.NDArray[np.int64], own: int,
    draw: tuple[int, str, int],
) -> list[int]:  # fmt: skip
    """Return one position of each of `candidates` - 1 other patients, drawn from (seed, purpose, the query's id)."""
    seed, purpose, candidates = draw
    random = generator(seed, "retrieval", purpose, str(ids[own]))
    chosen: dict[str, int] = {}
    for position in random.permutation(among):
        patient = str(patients[position])
        if patient != str(patients[own]) and patient not in chosen:
            chosen[patient] = int(position)
        if len(chosen) == candidates - 1:
            break
    return list(chosen.values())


def _note(ranks: dict[str, list[tuple[str, int, int]]], name: str, patient: str, scores: Tensor) -> None:
    """Append (patient, rank, candidates) of a query whose own score is the first."""
    if len(scores) > 1:
        ranks.setdefault(name, []).append((str(patient), 1 + int((scores[1:] >= scores[0]).sum()), len(scores)))


def _rate(ranks: list[tuple[str, int, int]], top: int, seed: int) -> Found:
    hits = np.array([rank <= top for _, rank, _ in ranks], np.float64)
    patients = np.array([patient for patient, _, _ in ranks], np.str_)
    rate = mean_interval(hits, patients, _DRAWS, generator(seed, "retrieval-bootstrap"))
    chances = [min(1.0, top / count) for _, _, count in ranks]
    return Found(rate, float(np.mean(chances)) if chances else float("nan"), len(ranks))


def as_metrics(found: dict[str, Found]) -> dict[str, float]:
    """Return the finite rates and, beside each, what guessing would reach."""
    rows: Iterable[tuple[str, float]] = (
        pair for name, one in found.items() for pair in ((name, one.rate.value), (f"{name}_chance", one.chance))
    )
    return {name: value for name, value in rows if np.isfinite(value)}


def as_json(found: dict[str, Found]) -> dict[str, dict[str, float | int | None]]:
    """Return the figures as JSON values; null where there was nothing to compare."""

    def finite(value: float) -> float | None:
        return value if np.isfinite(value) else None

    return {
        name: {
            "rate": finite(one.rate.value), "low": finite(one.rate.low), "high": finite(one.rate.high),
            "chance": finite(one.chance), "queries": one.queries,
        }
        for name, one in found.items()
    }  # fmt: skip
