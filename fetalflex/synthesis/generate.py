"""Generating images outside of the chain: a plan, a model, a folder."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fetalflex import __version__
from fetalflex.anatomy.anomalies import find_anomaly
from fetalflex.diffusion.two_stage import SampleResult
from fetalflex.model.pipeline import sampling_of
from fetalflex.synthesis.models import Model
from fetalflex.synthesis.outputs import Folder, Format, Made, finished, open_writer
from fetalflex.synthesis.requests import Ask, Draw, Planned, check_ask, plan_images


@dataclass(frozen=True)
class Progress:
    """How far it is: images done, of how many, and how many of them an earlier run had made."""

    done: int
    total: int
    resumed: int


@dataclass(frozen=True, eq=False)
class Job:
    """What `generate` is to do. `reference_sha256`: of the picture that the ask's reference was made of."""

    ask: Ask
    count: int
    seed: int
    kind: Format
    target: Path
    reference_sha256: str | None = None


def generate(model: Model, job: Job, draw: Draw | None) -> Iterator[Progress]:
    """Make the images and write them, yielding after each; the last one stands after the manifest.

    All layouts are drawn, and all settings checked, before anything is written. Images of a run that was cut off are
    kept if model, layouts and settings are the same.
    Raises: LayoutError, AnomalyError, ModelError, UsageError.
    """
    check_ask(job.ask, model.generator.vocabulary)
    plan = plan_images(job.ask, job.count, job.seed, model.generator.size, draw)
    sha256 = model.sha256()
    folder = Folder(job.target, _settings(job, sha256, model, plan))
    rows = folder.begin()
    done = finished(job.kind, rows, plan)
    left = [p for p in plan if p.request.image_id not in done]
    resumed = len(plan) - len(left)
    yield Progress(resumed, len(plan), resumed)
    writer = open_writer(job.kind, folder)
    results = model.stream([p.request for p in left], job.seed)
    for number, (planned, result) in enumerate(zip(left, results, strict=True), 1):
        writer.add(Made(planned, result, _row(job, planned, result, sha256, model.sampling.fine_steps)))
        yield Progress(resumed + number, len(plan), resumed)
    writer.close()
    folder.finish(p.request.image_id for p in plan)


def _settings(job: Job, sha256: str, model: Model, plan: list[Planned]) -> dict[str, Any]:
    """Return what an image depends on beside its number; the count may grow, so it is none of it.

    The first image's layout stands for what layouts are drawn from: other cases or statistics give another.
    """
    ask = job.ask
    return {
        "model": sha256, "version": __version__, "sampling": sampling_of(model.sampling), "seed": job.seed,
        "format": job.kind, "plane": ask.plane, "anomalies": [list(a) for a in ask.anomalies], "center": ask.center,
        "age_weeks": ask.age_weeks, "boxes_only": ask.boxes_only, "reference": job.reference_sha256,
        "unlike": None if ask.unlike is None else hashlib.sha256(ask.unlike.to_json().encode()).hexdigest(),
        "layouts": hashlib.sha256(plan[0].normal.to_json().encode()).hexdigest() if plan else "",
    }  # fmt: skip


def _row(job: Job, planned: Planned, result: SampleResult, sha256: str, fine_steps: int) -> dict[str, Any]:
    layout = planned.request.layout
    fine = result.rounds * fine_steps
    return {
        "image_id": result.image_id, "plane": layout.plane, "center": layout.center, "age_weeks": layout.age_weeks,
        "anomalies": json.dumps([[n, s, find_anomaly(n).unit] for n, s in job.ask.anomalies]),
        "reference": job.reference_sha256, "seed": job.seed, "layout_source": planned.source,
        "layout": layout.to_json(), "layout_adapted": result.adapted.to_json(), "model": sha256,
        "coarse_evaluations": result.evaluations - fine, "fine_evaluations": fine,
        "coarse_agreement": known(result.coarse_agreement), "agreement": known(result.agreement),
    }  # fmt: skip


def known(value: float) -> float | None:
    """Return a number rounded for a file, None where there is none."""
    return None if math.isnan(value) else round(value, 6)
