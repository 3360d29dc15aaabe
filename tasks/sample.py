"""Sampling: makes the plan come true, shard by shard: normal images, abnormal ones, counterfactual pairs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fetalflex import rng, tables
from fetalflex.anatomy.anomalies import ANOMALIES
from fetalflex.anatomy.layout import Layout, changed_region, to_avoid
from fetalflex.artifacts import picture, writing_folder
from fetalflex.errors import AnomalyError
from fetalflex.imports import light_diffusers
from fetalflex.masks.segmenter import Segmenter
from fetalflex.planning import Planned, partner_id, plan_images
from tasks.cases import read_cases
from tasks.chunks import ChunkWork
from tasks.stage import StageRun

with light_diffusers():
    from fetalflex.diffusion.two_stage import SampleRequest, SampleResult, sample_images
    from fetalflex.model.generator import Generator


class SampleWork(ChunkWork):
    """The plan of all images, a pure function of cases, parameters and seed; chunks make it come true."""

    def __init__(self, run: StageRun) -> None:
        """Plan every image and load the generator and the guide (the judge is never loaded here)."""
        super().__init__(run)
        self.seed = rng.derive_seed(run.params.data.seed, "sample")
        self.generator = Generator.load(run.root / "models" / "generator")
        self.guide = Segmenter.load(run.root / "models" / "guide")
        self.plan = list(plan_images(read_cases(run.root, run.params).of_group("train"), run.params))
        shards = run.params.sample.shards
        self.shards = [f"{n:02d}" for n in range(shards)]
        self.buckets = {
            name: [p for p in self.plan if rng.bucket(p.image_id, shards) == int(name)] for name in self.shards
        }

    def make(self, shard: str, folder: Path) -> None:
        """Sample one shard: all single images and the normal halves of pairs first, then the abnormal halves."""
        planned = self.buckets[shard]
        first = self._sample([single(p) for p in planned])
        rows = [self._row(p, r) for p, r in zip(planned, first, strict=True)]
        pairs = [(p, r) for p, r in zip(planned, first, strict=True) if p.kind == "pair-normal"]
        second = self._sample([counterfactual(p, r) for p, r in pairs])
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
        layout = planned.abnormal if abnormal_half and planned.abnormal is not None else planned.layout
        abnormal = layout is planned.abnormal
        return {
            "image_id": result.image_id,
            "image": picture(result.image, result.image_id),
            "coarse": picture(result.coarse, f"{result.image_id}-coarse"),
            "kind": "pair-abnormal" if abnormal_half else planned.kind,
            "pair_id": planned.image_id if planned.kind == "pair-normal" else None,
            "region": None,
            "plane": layout.plane, "center": layout.center or "",
            "age_weeks": layout.age_weeks, "age_derived": layout.age_derived,
            **_changes(planned if abnormal else None),
            "layout_source": planned.layout_source,
            "layout_normal": planned.normal.to_json() if abnormal else None,
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


def _changes(planned: Planned | None) -> dict[str, Any]:
    """Return the columns of an image's anomalies, at most two."""
    changes = list(planned.changes if planned is not None else ())
    columns: dict[str, Any] = {}
    for prefix, change in zip(("", "second_"), [*changes, None, None], strict=False):
        name, severity = change or (None, None)
        unit = None if name is None else ANOMALIES[name].unit
        columns |= {f"{prefix}anomaly": name, f"{prefix}severity": severity, f"{prefix}severity_unit": unit}
    return columns


def single(planned: Planned) -> SampleRequest:
    """Ask for an image from noise: abnormal ones as such, of a pair the normal half."""
    return SampleRequest(
        planned.image_id, asked(planned.layout), avoided=to_avoid(asked(planned.normal), asked(planned.layout))
    )


def counterfactual(planned: Planned, normal: SampleResult) -> SampleRequest:
    """Ask for the same image with the anomaly: only where the two layouts differ may pixels differ."""
    if planned.abnormal is None:
        raise AnomalyError(f"image {planned.image_id}: no abnormal layout to make a pair with")
    return SampleRequest(
        partner_id(planned.image_id),
        asked(planned.abnormal),
        normal.image,
        changed_region(planned.normal, planned.abnormal, normal.image.shape[0]),
        to_avoid(asked(planned.normal), asked(planned.abnormal)),
    )


def asked(layout: Layout) -> Layout:
    """Return what the generator is told: a derived age says no more than the sizes it came from, and it learnt none."""
    return replace(layout, age_weeks=None, age_derived=False) if layout.age_derived else layout
