"""What does sampling reach, and what does each part of it bring? On a workspace with trained models.

    python -m benchmarks.sampling WORKSPACE --keep DIR speed|steps|stages|boxes|repaint|edits [--images 144]

Layouts are the experts' outlines of test patients, the judge measures Dice, Inception features KID against the real
test images of the planes asked for. Arms are paired per layout and noise; intervals are bootstraps over source
patients. What an arm made lies in DIR and is used again. `speed` needs no real data: see benchmarks/sampling_speed.py.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ruamel.yaml import YAML

from benchmarks.packed import expert_layout
from fetalflex import rng
from fetalflex.anatomy.layout import Layout, rasterize
from fetalflex.anatomy.ontology import STRUCTURE_NAMES, structure_index
from fetalflex.dataset import EXPERT, Cases, marked_share
from fetalflex.diffusion.guidance import Codes, guided, steered, wanted
from fetalflex.diffusion.sector import fitting_sectors, in_sector
from fetalflex.diffusion.solver import euler, heun, multistep, noise, time_grid
from fetalflex.diffusion.two_stage import SampleRequest, decoded, sample_images
from fetalflex.masks.segmenter import Segmenter
from fetalflex.model.generator import Generator
from fetalflex.params import Params, Sample, parse
from fetalflex.quality.bootstrap import Interval, mean_interval
from fetalflex.quality.control.overlap import control_dice, image_means
from fetalflex.quality.features.cache import CachedEncoder
from fetalflex.quality.features.inception import InceptionEncoder
from fetalflex.quality.fidelity import kernel as fidelity
from tasks.cases import patient_names, read_cases

SEED, DRAWS = 7, 1000
SHOWN = ("head", "csp", "lateral-ventricle")
USED = ("budget", "coarse_steps", "adapt_time", "fine_steps", "fine_time", "solver", "agreement", "guidance",
        "guidance_until", "guidance_rescale", "steering", "darkening", "typical_outlines", "real_sectors",
        "remove_checkerboard", "repaint_jumps", "repaint_margin_px", "batch_size")  # fmt: skip
Floats = np.ndarray


@dataclass(frozen=True, eq=False)
class World:
    """Models and test cases of a workspace, and where arms are kept. `cases` are those whose layouts are asked for."""

    generator: Generator
    guide: Segmenter
    judge: Segmenter
    cases: Cases
    real: Cases
    keep: Path
    params: Sample
    seed: int = SEED

    @property
    def layouts(self) -> list[Layout]:
        """The experts' outlines of the cases, nothing predicted."""
        return [expert_layout(self.cases, i) for i in range(len(self.cases))]

    def requests(self) -> list[SampleRequest]:
        """One request per case."""
        return [SampleRequest(str(i), layout) for i, layout in zip(self.cases.ids, self.layouts, strict=True)]


@dataclass(frozen=True, eq=False)
class Arm:
    """Images uint8 [N, S, S] of an arm, what the judge says of them [N, K], and what they took."""

    images: np.ndarray
    dice: Floats
    evaluations: np.ndarray
    agreement: Floats
    seconds: float


def read_changes(items: Sequence[str]) -> dict[str, Any]:
    """Return `key=value` items, values as YAML, as a dict."""
    return {k: YAML(typ="safe").load(v) for k, v in (item.split("=") for item in items)}


def changed(params: Sample, update: dict[str, Any]) -> Sample:
    """Return parameters with some replaced; an unknown key or a wrong value is an error."""
    return Sample.model_validate_json(json.dumps(params.model_dump(mode="json") | update))


def load_world(root: Path, keep: Path, count: int, params: Sample) -> World:
    """Read models and test cases; cases with small structures come first."""
    torch.set_num_threads(1)
    raw = YAML(typ="safe", pure=True).load((root / "params.yaml").read_text())
    wanted_keys = ("preset", "data", "compute", "ingest", "masks")
    cases_file = keep / "cases.npz"
    keep.mkdir(parents=True, exist_ok=True)
    if not cases_file.exists():
        read = parse({k: raw[k] for k in wanted_keys}, Params, "params.yaml")
        read_cases(root, read).of_group("test").save(cases_file)
    cases = Cases.load(cases_file)
    expert = cases.sources == EXPERT
    small = expert[:, [structure_index("csp"), structure_index("lateral-ventricle")]].sum(1)
    order = np.lexsort((cases.ids, -small))
    chosen = np.sort([i for i in order if expert[i].any()][:count])
    planes = np.unique(cases.planes[chosen])
    real = cases.take(np.isin(cases.planes, planes) & (marked_share(cases) <= 0.05))
    models = root / "models"
    return World(
        Generator.load(models / "generator"), Segmenter.load(models / "guide"), Segmenter.load(models / "judge"),
        cases.take(chosen), real, keep, params,
    )  # fmt: skip


def run_arm(world: World, name: str, requests: Sequence[SampleRequest], params: Sample) -> Arm:
    """Sample (or take what is kept) and let the judge look at it."""
    path = kept_path(world, name, " ".join(f"{key}={getattr(params, key)}" for key in USED), requests)
    if not path.exists():
        start = time.process_time()
        results = sample_images(world.generator, world.guide, requests, params, world.seed)
        save(
            path,
            images=np.stack([r.image for r in results]),
            evaluations=np.array([r.evaluations for r in results]),
            agreement=np.array([r.agreement for r in results]),
            seconds=np.array(time.process_time() - start),
        )
    return _read(world, path)


def run_plain(world: World, name: str, steps: int, solver: str, steering: float = 0.0) -> Arm:
    """Sample in one stage by a solver; with `steering`, the guide's gradient acts below time 0.7, but at the end."""
    requests = world.requests()
    path = kept_path(
        world,
        name,
        f"{steps} {solver} {steering} {world.params.guidance} {world.params.guidance_until} "
        f"{world.params.guidance_rescale} {world.params.remove_checkerboard} {world.params.real_sectors}",
        requests,
    )
    if not path.exists():
        start, images = time.process_time(), []
        for first in range(0, len(requests), 8):
            chunk = requests[first : first + 8]
            chunk = chunk + [chunk[-1]] * (8 - len(chunk))
            layouts = [r.layout for r in chunk]
            how = (world.params.guidance, world.params.guidance_until, world.params.guidance_rescale)
            field = guided(Codes(world.generator, 8), layouts, [None] * 8, *how)
            if world.params.real_sectors:
                known = world.generator.sectors.known
                field = in_sector(field, [fitting_sectors(known(a.center), a) for a in layouts])
            x = noise([rng.derive_seed(world.seed, r.image_id, "coarse", 0) for r in chunk], world.generator.size)
            times = time_grid(steps)
            if steering:
                aim = wanted(layouts, world.guide.trained, world.generator.size)
                strong, weak = int((times > 0.7).sum()), len(times) - 1
                x = euler(field, x, times[: strong + 1])
                x = euler(steered(field, world.guide, aim, steering), x, times[strong:weak])
                times = times[weak - 1 :]
            x = {"euler": euler, "multistep": multistep, "heun": heun}[solver](field, x, times)
            made = decoded(world.generator.denoiser, x, world.params)
            images.append(made[: len(requests[first : first + 8])])
        n, cost = len(requests), 2 * steps - 1 if solver == "heun" else steps
        save(
            path, images=np.concatenate(images), evaluations=np.full(n, cost), agreement=np.full(n, np.nan),
            seconds=np.array(time.process_time() - start),
        )  # fmt: skip
    return _read(world, path)


def kept_path(world: World, name: str, how: str, requests: Sequence[SampleRequest]) -> Path:
    """Return where an arm made in this way lies."""
    asked = "".join(r.image_id + r.layout.to_json() for r in requests)
    how += "" if world.seed == SEED else f" seed {world.seed}"
    key = hashlib.sha256(f"{world.generator.digest} {how} {asked}".encode()).hexdigest()[:12]
    return world.keep / f"{name}-{key}.npz"


def save(path: Path, **arrays: object) -> None:
    """Write an arm, whole or not at all."""
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(partial, **arrays)
    partial.rename(path)


def _read(world: World, path: Path) -> Arm:
    with np.load(path, allow_pickle=False) as kept:
        images = kept["images"]
        return Arm(images, judged(world, images), kept["evaluations"], kept["agreement"], float(kept["seconds"]))


def judged(world: World, images: np.ndarray, layouts: Sequence[Layout] | None = None) -> Floats:
    """Return the judge's Dice against these layouts (the experts' outlines, where none are given), [N, K]."""
    drawn = [rasterize(layout, world.generator.size) for layout in layouts or world.layouts]
    known = np.array([name in world.judge.trained for name in STRUCTURE_NAMES])
    kinds = np.stack([d.kinds for d in drawn]) * known
    return control_dice(world.judge.predict, images, np.stack([d.maps for d in drawn]), kinds)


def columns(dice: Floats) -> dict[str, Floats]:
    """Return Dice by structure and over all, [N] each."""
    return {name: dice[:, structure_index(name)] for name in SHOWN} | {"all": image_means(dice)}


class Distances:
    """KID of arms against the real test images, and differences of it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.encoder = CachedEncoder(InceptionEncoder(batch=32), world.keep / "features")
        self.real = fidelity.Sample(self.encoder.features(world.real.images), patient_names(world.real))

    def of(self, arm: Arm) -> fidelity.Sample:
        """Return an arm's features."""
        return fidelity.Sample(self.encoder.features(arm.images), patient_names(self.world.cases))

    def kid(self, arm: Arm) -> float:
        """Return KID against the real images."""
        return fidelity.kid(self.real.features, self.of(arm).features)

    def difference(self, one: Arm, other: Arm) -> Interval:
        """Return KID(one) - KID(other), paired."""
        return fidelity.kid_difference(self.real, self.of(one), self.of(other), bootstrap=DRAWS, seed=SEED)


def interval(values: Floats, world: World) -> Interval:
    """Return a mean with its interval over source patients."""
    return mean_interval(values, patient_names(world.cases), DRAWS, rng.generator(SEED, "mean"))


def text(value: Interval, digits: int = 3) -> str:
    """Return `mean (low to high)`."""
    return f"{value.value:+.{digits}f} ({value.low:+.{digits}f} to {value.high:+.{digits}f})"


def compare(world: World, arms: dict[str, Arm], base: str, distances: Distances | None) -> None:
    """Print each arm, and beside it its paired differences to the arm `base`."""
    print(f"n = {len(world.cases)} layouts of {len(np.unique(patient_names(world.cases)))} patients; base: {base}")
    if distances is not None:
        print(f"KID against {len(distances.real)} real test images")
    heads = [*SHOWN, "all"]
    print("| arm | evaluations | processor s | " + " | ".join(heads) + " | guide | KID | "
          "difference: " + " | ".join(heads) + " | KID |")  # fmt: skip
    print("|" + "---|" * (4 + 2 * len(heads) + 2))
    for name, arm in arms.items():
        values, before = columns(arm.dice), columns(arms[base].dice)
        row = [name, f"{arm.evaluations.mean():.1f}", f"{arm.seconds:.0f}"]
        row += [f"{np.nanmean(values[h]):.3f}" for h in heads]
        row.append("" if np.isnan(arm.agreement).all() else f"{np.nanmean(arm.agreement):.3f}")
        row.append("" if distances is None else f"{distances.kid(arm):.4f}")
        if name != base:
            row += [text(interval(values[h] - before[h], world)) for h in heads]
            row.append("" if distances is None else text(distances.difference(arm, arms[base]), 4))
        print("| " + " | ".join(row) + " |", flush=True)


def measure_steps(world: World, solvers: Sequence[str]) -> None:
    """Few evaluations against 200, by solver."""
    arms = {"euler-200": run_plain(world, "plain", 200, "euler")}
    for solver in solvers:
        for steps in (8, 12, 16, 20):
            arms[f"{solver}-{steps}"] = run_plain(world, "plain", steps, solver)
    compare(world, arms, "euler-200", Distances(world))


def measure_stages(world: World, variants: Sequence[str], *, brief: bool) -> None:
    """One stage against two, at the same number of evaluations. `variants`: "name key=value ..." of more arms.

    `brief`: these two arms alone.
    """
    base = world.params.model_copy(update={"agreement": 1.0})
    budget = base.budget
    one = {"coarse_steps": budget, "agreement": 0.0}
    arms = {
        "one stage": run_arm(world, "stages", world.requests(), base.model_copy(update=one)),
        "two stages": run_arm(world, "stages", world.requests(), base),
    }
    if not brief:
        unsteered = base.model_copy(update={"steering": 0.0})
        arms["two, no steering"] = run_arm(world, "stages", world.requests(), unsteered)
        arms["two, early stop"] = run_arm(world, "stages", world.requests(), world.params)
    for variant in variants:
        name, *changes = variant.split()
        update = read_changes(changes)
        if "plain" in update:
            arms[name] = run_plain(world, "plain", budget, update["plain"], update.get("steering", 0.0))
        else:
            arms[name] = run_arm(world, "stages", world.requests(), changed(base, update))
    compare(world, arms, "one stage", Distances(world))


def measure_boxes(world: World) -> None:
    """Masks asked, and only their boxes, with outlines typical, adapted early, late and not; Dice against the masks."""
    boxed = [replace(r, layout=r.layout.boxes_only()) for r in world.requests()]
    plain = world.params.model_copy(update={"typical_outlines": False})
    late = plain.model_copy(update={"adapt_time": 0.0})
    one = late.model_copy(update={"coarse_steps": late.budget, "agreement": 0.0})
    arms = {
        "masks": run_arm(world, "stages", world.requests(), world.params),
        "boxes": run_arm(world, "boxes", boxed, world.params),
        "boxes, without typical outlines": run_arm(world, "boxes", boxed, plain),
        "boxes, adapted after the coarse stage": run_arm(world, "boxes", boxed, late),
        "boxes, one stage, never adapted": run_arm(world, "boxes", boxed, one),
    }
    compare(world, arms, "masks", Distances(world))


def main() -> None:
    """Run the part that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("part", choices=("speed", "steps", "stages", "boxes", "repaint", "edits"))
    parser.add_argument("--keep", type=Path, required=True, help="folder for what was made")
    parser.add_argument("--images", type=int, default=144)
    parser.add_argument("--set", nargs="*", default=[], help="sampling parameters, key=value (YAML)")
    parser.add_argument("--variant", action="append", default=[], help="stages: 'NAME key=value ...', one more arm")
    parser.add_argument("--brief", action="store_true", help="stages: the two arms alone")
    parser.add_argument("--seed", type=int, default=SEED, help="of the noise")
    parser.add_argument("--solvers", nargs="*", default=["euler"], choices=("euler", "multistep", "heun"), help="steps")
    parser.add_argument("--jumps", type=int, nargs="*", default=[0, 1, 2, 4])
    parser.add_argument("--rounds", type=int, default=5, help="speed: how often the two sides are timed by turns")
    chosen = parser.parse_args()
    params = changed(Sample(), read_changes(chosen.set))
    world = replace(load_world(chosen.workspace, chosen.keep, chosen.images, params), seed=chosen.seed)
    judge_real = columns(judged(world, world.cases.images))
    print(
        "judge on the real images of these layouts:", {k: round(float(np.nanmean(v)), 3) for k, v in judge_real.items()}
    )
    print(params, flush=True)
    if chosen.part == "speed":
        from benchmarks.sampling_speed import measure_speed  # diffusers' pipelines take seconds to import

        measure_speed(world.generator, world.guide, world.requests(), params, chosen.rounds)
    elif chosen.part == "steps":
        measure_steps(world, chosen.solvers)
    elif chosen.part == "stages":
        measure_stages(world, chosen.variant, brief=chosen.brief)
    elif chosen.part == "boxes":
        measure_boxes(world)
    else:
        from benchmarks.sampling_edits import measure_edits, measure_repaint  # reads this module

        measure_edits(world) if chosen.part == "edits" else measure_repaint(world, chosen.jumps)


if __name__ == "__main__":
    main()
