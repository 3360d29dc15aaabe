"""Sampling: normal images from varied layouts of training cases, one anomaly by layout edit, counterfactual pairs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fetalflex import rng, tables
from fetalflex.anatomy.anomalies import ANOMALIES, apply_anomaly
from fetalflex.anatomy.layout import Layout, rasterize
from fetalflex.anatomy.variation import vary_layout
from fetalflex.artifacts import picture
from fetalflex.dataset import Cases
from fetalflex.errors import AnomalyError, TooFewCasesError
from fetalflex.imports import light_diffusers
from fetalflex.masks.segmenter import Segmenter
from tasks.cases import read_cases
from tasks.chunks import ChunkWork
from tasks.stage import StageRun, writing_folder

with light_diffusers():
    from fetalflex.diffusion.two_stage import SampleRequest, SampleResult, sample_images
    from fetalflex.model.generator import Generator

_TRIES = 20


@dataclass(frozen=True, eq=False)
class Planned:
    """One image to make. A pair has `edited`: the abnormal layout of its second image."""

    image_id: str
    kind: str
    layout: Layout
    source_case: str
    severity: float | None = None
    edited: Layout | None = None


class SampleWork(ChunkWork):
    """The plan of all images, a pure function of cases, parameters and seed; chunks make it come true."""

    def __init__(self, run: StageRun) -> None:
        """Plan every image and load the generator and the guide (the judge is never loaded here)."""
        super().__init__(run)
        self.seed = rng.derive_seed(run.params.data.seed, "sample")
        self.generator = Generator.load(run.root / "models" / "generator")
        self.guide = Segmenter.load(run.root / "models" / "guide")
        self.plan = list(plan_images(read_cases(run.root, run.params).of_group("train"), run))
        shards = run.params.sample.shards
        self.shards = [f"{n:02d}" for n in range(shards)]
        self.buckets = {
            name: [p for p in self.plan if rng.bucket(p.image_id, shards) == int(name)] for name in self.shards
        }

    def make(self, shard: str, folder: Path) -> None:
        """Sample one shard: all single images and the normal halves of pairs first, then the abnormal halves."""
        planned = self.buckets[shard]
        first = self._sample([SampleRequest(p.image_id, p.layout) for p in planned])
        rows = [self._row(p, r) for p, r in zip(planned, first, strict=True)]
        pairs = [(p, r) for p, r in zip(planned, first, strict=True) if p.edited is not None]
        requests = [_counterfactual(p, r) for p, r in pairs]
        second = self._sample(requests)
        for (p, normal), result in zip(pairs, second, strict=True):
            region = result.region if result.region is not None else np.ones_like(normal.image, bool)
            shown = picture(region.astype(np.uint8) * 255, f"{result.image_id}-region")
            rows.append(self._row(p, result, abnormal_half=True) | {"region": shown})
        tables.write_shard(folder / f"images-{shard}.parquet", rows, tables.Synthetic)

    def _sample(self, requests: list[SampleRequest]) -> list[SampleResult]:
        return (
            sample_images(self.generator, self.guide, requests, self.run.params.sample, self.seed) if requests else []
        )

    def _row(self, planned: Planned, result: SampleResult, *, abnormal_half: bool = False) -> dict[str, Any]:
        layout = planned.edited if abnormal_half and planned.edited is not None else planned.layout
        abnormal = abnormal_half or planned.kind == "abnormal"
        anomaly = self.run.params.sample.anomaly
        return {
            "image_id": result.image_id,
            "image": picture(result.image, result.image_id),
            "coarse": picture(result.coarse, f"{result.image_id}-coarse"),
            "kind": "pair-abnormal" if abnormal_half else planned.kind,
            "pair_id": planned.image_id if planned.edited is not None else None,
            "region": None,
            "plane": layout.plane, "center": layout.center or "", "age_weeks": layout.age_weeks,
            "anomaly": anomaly if abnormal else None,
            "severity": planned.severity if abnormal else None,
            "severity_unit": ANOMALIES[anomaly].unit if abnormal else None,
            "layout": layout.to_json(), "layout_adapted": result.adapted.to_json(),
            "source_case": planned.source_case, "seed": self.seed,
            "evaluations": result.evaluations,
            "agreement": None if np.isnan(result.agreement) else round(result.agreement, 6),
        }  # fmt: skip

    def publish(self, chunks: dict[str, Path]) -> None:
        """Put all shards in place."""
        whole = self.run.work / "whole"
        with writing_folder(whole) as partial:
            for shard, chunk in chunks.items():
                name = f"images-{shard}.parquet"
                (partial / name).write_bytes((chunk / name).read_bytes())
        self.run.publish({"data/synthetic": whole})


def plan_images(cases: Cases, run: StageRun) -> Iterator[Planned]:
    """Yield what is to be made, from layouts of training cases only (test layouts would leak into what is measured).

    Raises: TooFewCasesError where no training case shows what the anomaly needs.
    """
    params, seed = run.params.sample, run.params.data.seed
    usable = [i for i in range(len(cases)) if cases.sources[i].any()]
    fitting = [i for i in usable if _can_show(cases.layout(i), params.anomaly)]
    if not usable or (params.abnormal + params.pairs and not fitting):
        raise TooFewCasesError(
            f"sample: {len(usable)} training cases have a layout, {len(fitting)} can show {params.anomaly}; expected "
            "some of each: add annotated cases, or set sample.abnormal and sample.pairs to 0"
        )
    wanted = {"normal": params.normal, "abnormal": params.abnormal, "pair-normal": params.pairs}
    for kind, count in wanted.items():
        for number in range(count):
            image_id = f"{rng.derive_seed(seed, 'image', kind, number):016x}"
            random = rng.generator(seed, "plan", image_id)
            yield _plan_one(cases, usable if kind == "normal" else fitting, kind, (image_id, run, random))


def _plan_one(
    cases: Cases, positions: list[int], kind: str, context: tuple[str, StageRun, np.random.Generator]
) -> Planned:
    image_id, run, random = context
    params = run.params.sample
    for _ in range(_TRIES):
        position = int(random.choice(positions))
        layout = vary_layout(cases.layout(position), params.perturbation, random)
        source = str(cases.ids[position])
        if kind == "normal":
            return Planned(image_id, kind, layout, source)
        severity = round(float(random.uniform(*params.severity_mm)), 1)
        try:
            edited = apply_anomaly(layout, params.anomaly, severity, random)
        except AnomalyError:
            continue  # this anatomy has no room for it (say, a head cut by the sector): another case is drawn
        if kind == "abnormal":
            return Planned(image_id, kind, edited, source, severity)
        return Planned(image_id, kind, layout, source, severity, edited)
    raise TooFewCasesError(
        f"sample: {params.anomaly} could be made in none of {_TRIES} drawn cases; widen sample.severity_mm"
    )


def _can_show(layout: Layout, anomaly: str) -> bool:
    wanted = ANOMALIES[anomaly]
    return layout.plane in wanted.planes and all(layout.find(s) is not None for s in (wanted.structure, "head"))


def _counterfactual(planned: Planned, normal: SampleResult) -> SampleRequest:
    """Ask for the same image with the anomaly: only where the two layouts differ may pixels differ."""
    if planned.edited is None:
        raise AnomalyError(f"image {planned.image_id}: no abnormal layout to make a pair with")
    size = normal.image.shape[0]
    before, after = rasterize(planned.layout, size).maps, rasterize(planned.edited, size).maps
    return SampleRequest(partner_id(planned.image_id), planned.edited, normal.image, (before != after).any(axis=0))


def partner_id(image_id: str) -> str:
    """Return the id of the abnormal half of the pair whose normal half is `image_id`."""
    return f"{rng.derive_seed(0, 'partner', image_id):016x}"
