"""The full downstream protocol on packed cases, on one machine with a GPU, in one run of limited length.

    python -m benchmarks.downstream_full run --cases CASES.npz --abnormal ABNORMAL.npz --guide DIR --out DIR
    python -m benchmarks.downstream_full report --out DIR

`run` trains aligner and generator on the group train, samples, and then runs the protocol's trainings, the most needed
first, until they are done or the time is up. The machine needs what `benchmarks.train_packed` needs, and transformers,
MONAI and scikit-learn. ABNORMAL.npz: images uint8 [N, S, S], labels and names str [N]. `report` writes downstream.json,
downstream.html and tables in Markdown from what there is.
"""

import argparse
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from benchmarks.framing import framed_task
from fetalflex import rng
from fetalflex.anatomy.layout import Layout, changed_region, to_avoid
from fetalflex.anatomy.ontology import PLANE_NAMES
from fetalflex.dataset import Cases
from fetalflex.downstream.data.anomalies import Material, Pairs, anomaly_task
from fetalflex.downstream.data.labelled import Labelled, of_cases
from fetalflex.downstream.data.planes import plane_task
from fetalflex.downstream.protocol import TrainingSpec
from fetalflex.downstream.study import Study, load_outcome, run_training, save_outcome
from fetalflex.masks.segmenter import Segmenter
from fetalflex.params import Params, parse, preset_text
from fetalflex.planning import Planned, plan_images

DETECTORS = ("neighbours", "gaussian", "counterfactual", "style-only")
_SHARED: dict = {}


def read(preset: str, changes: list[str]) -> Params:
    """Return the preset's parameters with what `section.key=value` changes."""
    values = YAML(typ="safe", pure=True).load(preset_text(preset))
    for item in changes:
        name, _, value = item.partition("=")
        section, _, key = name.partition(".")
        values[section][key] = YAML(typ="safe", pure=True).load(value)
    return parse(values, Params, preset)


def asked(layout: Layout) -> Layout:
    """Return what the generator is told: without an age that was derived from a size."""
    return replace(layout, age_weeks=None, age_derived=False) if layout.age_derived else layout


def planes_alone(cases: Cases, seed: int) -> Iterator[Planned]:
    """Yield an image per training case without a layout: asked for by plane and center alone.

    The stage `sample` draws layouts of annotated cases only, and no public set annotates abdomens, femurs or thoraxes.
    """
    for i in np.nonzero(~cases.sources.any(1))[0]:
        layout = Layout(PLANE_NAMES[int(cases.planes[i])], "image", 1.0, (), str(cases.centers[i]))
        yield Planned(
            f"{rng.derive_seed(seed, 'plane alone', int(i)):016x}", "normal", layout, str(cases.ids[i]), "plane"
        )


def sample_part(job: tuple) -> list[tuple]:
    """Sample the planned images of one part, pairs' normal halves before their abnormal ones."""
    import torch

    from fetalflex.diffusion.two_stage import SampleRequest, sample_images
    from fetalflex.model.generator import Generator

    planned, out, guide_folder, params, device = job
    torch.set_num_threads(1)
    generator, guide = Generator.load(out / "generator"), Segmenter.load(guide_folder)
    generator.denoiser.to(device)
    guide.to(device)
    seed = rng.derive_seed(params.data.seed, "sample")

    def ask(p: Planned) -> SampleRequest:
        return SampleRequest(p.image_id, asked(p.layout), avoided=to_avoid(asked(p.normal), asked(p.layout)))

    first = sample_images(generator, guide, [ask(p) for p in planned], params.sample, seed)
    pairs = [(p, r) for p, r in zip(planned, first, strict=True) if p.kind == "pair-normal"]
    requests = [
        SampleRequest(
            f"{p.image_id}-abnormal", asked(p.abnormal), r.image,
            changed_region(p.normal, p.abnormal, r.image.shape[0]), to_avoid(asked(p.normal), asked(p.abnormal)),
        )
        for p, r in pairs
    ]  # fmt: skip
    second = sample_images(generator, guide, requests, params.sample, seed) if requests else []
    halves = {p.image_id: (r.image, r.region) for (p, _), r in zip(pairs, second, strict=True)}
    return [(p, r.image, halves.get(p.image_id)) for p, r in zip(planned, first, strict=True)]


def sample(cases: Cases, args: argparse.Namespace, params: Params, device: str) -> list[tuple]:
    """Sample everything that the parameters plan, in parts side by side."""
    learnt = cases.of_group("train")
    planned = [*plan_images(learnt, params), *planes_alone(learnt, params.data.seed)]
    size = params.sample.batch_size
    parts = [planned[i : i + size] for i in range(0, len(planned), size)]
    jobs = [(part, args.out, args.guide, params, device) for part in parts]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(args.processes, 8), mp_context=context) as pool:
        return [row for rows in pool.map(sample_part, jobs) for row in rows]


def make_study(cases: Cases, made: list[tuple], abnormal_file: Path, params: Params) -> Study:
    """Return the study of real cases, sampled images and abnormal test images."""

    def labelled(kind: str) -> Labelled:
        rows = [(p, image) for p, image, _ in made if p.kind == kind]
        text = [np.array([f(p) for p, _ in rows], np.str_) for f in (_plane, _case, _center)]
        return Labelled(np.stack([image for _, image in rows]), *text)

    halves = [(p, image, half) for p, image, half in made if half is not None]
    changes = [p.changes[0] for p, _, _ in halves]
    pairs = Pairs(
        np.stack([image for _, image, _ in halves]), np.stack([half[0] for _, _, half in halves]),
        np.stack([half[1] for _, _, half in halves]),
        np.array(["+".join(name for name, _ in p.changes) for p, _, _ in halves]),
        np.array([_plane(p) for p, _, _ in halves]), np.array([_case(p) for p, _, _ in halves]),
        np.array([severity for _, severity in changes], np.float64), np.array([""] * len(halves), np.str_),
    )  # fmt: skip
    groups = {name: of_cases(cases.of_group(name)) for name in ("train", "judge", "test")}
    with np.load(abnormal_file) as file:
        images, labels, names = file["images"], file["labels"], file["names"]
    found = Labelled(images, labels, np.char.add("abnormal/", names), np.full(len(names), "abnormal-brain"))
    normal, planes = labelled("normal"), np.full(len(names), "brain")
    material = Material(
        groups["train"], normal, labelled("abnormal"), groups["judge"], groups["test"], found, planes, pairs
    )  # fmt: skip
    task = plane_task(groups["train"], normal, groups["test"], groups["judge"])
    return Study(params.evaluate, params.data.seed, task, anomaly_task(material))


def _plane(planned: Planned) -> str:
    return planned.layout.plane


def _case(planned: Planned) -> str:
    return planned.source_case


def _center(planned: Planned) -> str:
    return planned.layout.center or ""


def start_worker(study: Path, out: Path, device: str) -> None:
    """Prepare one process: the study is read once."""
    import torch

    torch.set_num_threads(1)
    _SHARED.update(study=Study.load(study), out=out, device=device)


def train_one(spec: TrainingSpec) -> float:
    """Run one training, unless it was done before; return its seconds."""
    begun, path = time.monotonic(), _SHARED["out"] / "outcomes" / f"{spec.name}.npz"
    if not path.is_file():
        save_outcome(path, run_training(_SHARED["study"], spec, _SHARED["device"]))
    return time.monotonic() - begun


def ordered(study: Study) -> Iterator[TrainingSpec]:
    """Yield trainings, the comparison of the main arms first, whole rounds of all models before the next."""
    params, every = study.params, study.trainings()
    whole_data = [s for s in every if s.shots == params.shots and not s.without]
    first = [s for s in whole_data if is_main(s.arm, s.ratio, study)]
    others = [s for s in whole_data if not is_main(s.arm, s.ratio, study)]
    yield from sorted(first, key=lambda s: s.repeat)
    yield from sorted((s for s in every if s.shots != params.shots), key=lambda s: s.repeat)
    yield from sorted(others, key=lambda s: (s.ratio != params.ratio, s.repeat))
    yield from sorted((s for s in every if s.without), key=lambda s: s.repeat)


def run_all(study: Study, args: argparse.Namespace, until: float, device: str) -> None:
    """Run trainings until done or out of time; none is started that is unlikely to end."""
    path, folder = args.out / "study.npz", args.out / "outcomes"
    folder.mkdir(exist_ok=True)
    todo, longest, done = list(ordered(study)), 0.0, 0
    context = multiprocessing.get_context("spawn")
    print(f"{len(todo)} trainings on {args.processes} processes", flush=True)
    with ProcessPoolExecutor(
        args.processes, mp_context=context, initializer=start_worker, initargs=(path, args.out, device)
    ) as pool:
        futures = {pool.submit(train_one, spec): spec for spec in todo}
        for future in as_completed(futures):
            longest, done = max(longest, future.result() if not future.cancelled() else 0.0), done + 1
            if done % 20 == 0:
                print(
                    f"{done} of {len(todo)}, longest {longest:.1f} s, {until - time.monotonic():.0f} s left", flush=True
                )
            if time.monotonic() + longest > until:
                for waiting in futures:
                    waiting.cancel()
                break


def prepare(args: argparse.Namespace, params: Params, begun: float) -> Study:
    """Train the generator, sample, and keep the study."""
    cases = Cases.load(args.cases)
    if not (args.out / "generator" / "config.json").is_file():
        command = [sys.executable, "-m", "benchmarks.train_packed", "--cases", str(args.cases), "--preset", args.preset]
        command += ["--device", args.device, "--out", str(args.out), "--set", *args.set]
        subprocess.run(command, check=True)
    print(f"generator: {time.monotonic() - begun:.0f} s", flush=True)
    made = sample(cases, args, params, args.device)
    np.savez_compressed(
        args.out / "synthetic.npz", images=np.stack([image for _, image, _ in made]),
        kinds=np.array([p.kind for p, _, _ in made]), planes=np.array([_plane(p) for p, _, _ in made]),
    )  # fmt: skip
    print(f"{len(made)} sampled: {time.monotonic() - begun:.0f} s", flush=True)
    study = make_study(cases, made, args.abnormal, params)
    if args.framed and study.anomalies is not None:
        study = replace(study, anomalies=framed_task(study.anomalies, Segmenter.load(args.guide)))
    study.save(args.out / "study.npz")
    return study


def run(args: argparse.Namespace) -> None:
    """Train, sample, evaluate."""
    begun = time.monotonic()
    until, params = begun + args.seconds, read(args.preset, args.set)
    device = args.device
    args.out.mkdir(parents=True, exist_ok=True)
    if (args.out / "study.npz").is_file():  # an earlier run was cut off
        study = Study.load(args.out / "study.npz")
    else:
        study = prepare(args, params, begun)
    run_all(study, args, until, device)
    print(f"trainings: {time.monotonic() - begun:.0f} s", flush=True)
    detectors(study, args, device)
    pack(args.out)
    print(f"all: {time.monotonic() - begun:.0f} s", flush=True)


def detectors(study: Study, args: argparse.Namespace, device: str) -> None:
    """Run every detector."""
    from fetalflex.downstream.detectors.run import Networks, run_detector
    from fetalflex.model.generator import Generator

    networks = Networks(Generator.load(args.out / "generator"), Segmenter.load(args.guide))
    networks.generator.denoiser.to(device)
    for name in DETECTORS:
        outcome = run_detector(name, study.anomalies, study.params, study.seed, networks)
        save_outcome(args.out / f"detector_{name}.npz", outcome)


def pack(out: Path) -> None:
    """Put all outcomes into one file."""
    packed = {}
    for path in sorted((out / "outcomes").glob("*.npz")):
        packed |= {f"{path.stem}|{name}": values for name, values in load_outcome(path).items()}
    np.savez_compressed(out / "outcomes.npz", **packed)


def report(args: argparse.Namespace) -> None:
    """Write the report and its page from what was run."""
    from fetalflex.downstream.statistics.summary import downstream_report
    from fetalflex.report.downstream.page import render_downstream

    study = Study.load(args.out / "study.npz")
    with np.load(args.out / "outcomes.npz") as packed:
        arrays = dict(packed)
    found: dict[str, dict] = {}
    for key, values in arrays.items():
        name, _, part = key.partition("|")
        found.setdefault(name, {})[part] = values
    outcomes = whole({spec: found[spec.name] for spec in study.trainings() if spec.name in found}, study)
    known = {n: load_outcome(args.out / f"detector_{n}.npz") for n in DETECTORS}
    result = downstream_report(study, outcomes, known)
    (args.out / "downstream.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    page = render_downstream(result, study, known, preset=args.preset)
    (args.out / "downstream.html").write_text(page, encoding="utf-8")
    print(f"{len(outcomes)} of {len(study.trainings())} trainings reported")


def whole(outcomes: dict, study: Study) -> dict:
    """Return the trainings that can be compared: repeats that all main arms have, other arms where they have the same.

    What the clock cut off is dropped.
    """
    every: dict[tuple, dict[tuple, set]] = {}
    for spec in study.trainings():
        arms = every.setdefault((spec.task, spec.model, spec.shots, spec.without), {})
        arms.setdefault((spec.arm, spec.ratio), set())
        if spec in outcomes:
            arms[spec.arm, spec.ratio].add(spec.repeat)
    kept = {}
    for spec, outcome in outcomes.items():
        arms = every[spec.task, spec.model, spec.shots, spec.without]
        common = set.intersection(*(r for (arm, ratio), r in arms.items() if is_main(arm, ratio, study)))
        if spec.repeat in common and common <= arms[spec.arm, spec.ratio]:
            kept[spec] = outcome
    return kept


def is_main(arm: str, ratio: float, study: Study) -> bool:
    """Return whether an arm is of the comparison itself: no control, no further ratio."""
    return arm not in ("real+unseen", "real+noise") and ratio == study.params.ratio


def main() -> None:
    """Run or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", type=Path, help="packed cases (Cases.save)")
    parser.add_argument("--abnormal", type=Path, help="packed abnormal test images")
    parser.add_argument("--guide", type=Path, help="models/guide")
    parser.add_argument("--preset", default="cpu64")
    parser.add_argument("--set", nargs="*", default=[], help="changes of the preset, section.key=value")
    parser.add_argument(
        "--seconds", type=float, default=450, help="when the last training may start, from the beginning"
    )
    parser.add_argument("--framed", action="store_true", help="cut the anomaly task's images to the head")
    parser.add_argument("--processes", type=int, default=14)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    args = parser.parse_args()
    (run if args.what == "run" else report)(args)


if __name__ == "__main__":
    main()
