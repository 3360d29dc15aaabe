"""Repaint: is the outside kept, do seams show, and does an edited structure appear? Parts of benchmarks/sampling.py."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from benchmarks.sampling import DRAWS, SEED, USED, World, judged, kept_path, run_arm, save, text
from fetalflex import rng
from fetalflex.anatomy.anomalies import apply_anomaly
from fetalflex.anatomy.layout import Layout, rasterize
from fetalflex.anatomy.ontology import structure_index
from fetalflex.diffusion.repaint import compose, grow
from fetalflex.diffusion.two_stage import sample_images
from fetalflex.errors import AnomalyError
from fetalflex.quality.bootstrap import Interval, mean_interval
from tasks.cases import patient_names


def measure_repaint(world: World, jumps: Sequence[int]) -> None:
    """Seams and the outside: repaint with jumps at one budget, and plain re-generation, pasted or not."""
    names, size = patient_names(world.cases), world.generator.size
    regions = [edit_region(layout, size) for layout in world.layouts]
    plain = [
        replace(r, reference=image, region=region)
        for r, image, region in zip(world.requests(), world.cases.images, regions, strict=True)
    ]
    base = world.params
    margin = base.repaint_margin_px
    grown = [grow(region, margin) for region in regions]
    arms = {f"repaint, {j} jumps": run_arm(world, "repaint", plain, base.model_copy(update={"repaint_jumps": j}))
            for j in jumps}  # fmt: skip
    made = run_arm(world, "stages", world.requests(), base)
    kept = zip(made.images, world.cases.images, grown, strict=True)
    pasted = np.stack([compose(image, reference, region) for image, reference, region in kept])
    print(f"n = {len(regions)} regions, median {np.median([r.sum() for r in grown]):.0f} of {size**2} pixels")
    print("| arm | evaluations | outside changed, pixels | outside, mean grey difference | gradient over that of the "
          "reference at the edge, | 1 px in | 2 px in | 3 px in | 4 px in |")  # fmt: skip
    print("|" + "---|" * 9)
    rows = [(name, arm.images, arm.evaluations.mean()) for name, arm in arms.items()]
    rows += [("re-generated, pasted", pasted, made.evaluations.mean())]
    rows += [("re-generated, not pasted", made.images, made.evaluations.mean())]
    for name, images, cost in rows:
        outside = [~region for region in grown]
        pairs = zip(images, world.cases.images, outside, strict=True)
        moved = np.array([np.abs(a.astype(int) - b)[o].mean() for a, b, o in pairs])
        changed = sum(int((a != b)[o].sum()) for a, b, o in zip(images, world.cases.images, outside, strict=True))
        ratios = [seam_ratio(images, world.cases.images, grown, depth, names) for depth in range(5)]
        cells = [f"{r.value:.3f} ({r.low:.3f} to {r.high:.3f})" for r in ratios]
        print("| " + " | ".join([name, f"{cost:.1f}", f"{changed}", f"{moved.mean():.2f}", *cells]) + " |")


def measure_edits(world: World, severity_mm: float = 14.0) -> None:
    """Ventricles widened in real test images by repaint: the judge's Dice with the asked ventricle, and seams."""
    requests, kept = [], []
    for i, request in enumerate(world.requests()):
        try:
            random = rng.generator(SEED, "edit", request.image_id)
            edited = apply_anomaly(request.layout, "ventriculomegaly", severity_mm, random)
        except AnomalyError:
            continue  # no ventricle there, or no room in this head
        before, after = (rasterize(layout, world.generator.size).maps for layout in (request.layout, edited))
        region = (before != after).any(axis=0)
        requests.append(replace(request, layout=edited, reference=world.cases.images[i], region=region))
        kept.append(i)
    base, names = world.params.model_copy(update={"agreement": 1.0}), patient_names(world.cases)[kept]
    references, layouts = world.cases.images[kept], [r.layout for r in requests]
    ventricle = structure_index("lateral-ventricle")
    arms = {
        "no jumps": base.model_copy(update={"repaint_jumps": 0}),
        "one jump per step": base.model_copy(update={"repaint_jumps": 1}),
        "no jumps, no steering": base.model_copy(update={"repaint_jumps": 0, "steering": 0.0}),
    }
    untouched = np.nanmean(judged(world, references, layouts)[:, ventricle])
    print(f"n = {len(kept)}; asked {severity_mm:g} mm; Dice of the asked ventricle in untouched images {untouched:.3f}")
    first = None
    for name, params in arms.items():
        how = " ".join(f"{key}={getattr(params, key)}" for key in USED)
        path = kept_path(world, "edits", how, requests)
        if not path.exists():
            results = sample_images(world.generator, world.guide, requests, params, world.seed)
            save(path, images=np.stack([r.image for r in results]), evaluations=[r.evaluations for r in results])
        with np.load(path, allow_pickle=False) as found:
            images, cost = found["images"], found["evaluations"].mean()
        dice = judged(world, images, layouts)[:, ventricle]
        first = dice if first is None else first
        change = mean_interval(dice - first, names, DRAWS, rng.generator(SEED, "mean"))
        edges = [seam_ratio(images, references, [grow(r.region, params.repaint_margin_px) for r in requests], d, names)
                 for d in (0, 2)]  # fmt: skip
        cells = [f"{r.value:.3f} ({r.low:.3f} to {r.high:.3f})" for r in edges]
        print(
            f"| {name} | {cost:.1f} | {np.nanmean(dice):.3f} | {text(change)} | " + " | ".join(cells) + " |", flush=True
        )


def edit_region(layout: Layout, size: int) -> np.ndarray:
    """Return what is generated anew: a small structure with 2 pixels around it, else an ellipse inside the head."""
    drawn = rasterize(layout, size)
    for name in ("lateral-ventricle", "csp"):
        if drawn.maps[structure_index(name)].any():
            return grow(drawn.maps[structure_index(name)] > 0.5, 2)
    inner = drawn.maps.max(0) > 0.5
    depth = np.asarray(ndimage.distance_transform_edt(inner))
    return depth > 0.6 * depth.max()


def seam_ratio(
    images: np.ndarray, references: np.ndarray, regions: Sequence[np.ndarray], depth: int, patients: np.ndarray
) -> Interval:
    """Return the mean |difference| of neighbours across the region's edge, over the references' at the same places.

    `depth`: how many pixels inside the edge. 1 is what an untouched image has. The interval is over patients, of the
    ratio of the sums.
    """
    new, old = [], []
    for image, reference, region in zip(images, references, regions, strict=True):
        inner = np.asarray(ndimage.binary_erosion(region, np.ones((3, 3)), iterations=depth)) if depth else region
        new.append(edge_gradient(image, inner))
        old.append(edge_gradient(reference, inner))
    first, second = np.array(new), np.array(old)
    known = np.isfinite(first) & np.isfinite(second)
    first, second, names = first[known], second[known], np.unique(patients[known], return_inverse=True)[1]
    random = rng.generator(SEED, "seam", depth)
    weights = random.multinomial(names.max() + 1, np.full(names.max() + 1, 1 / (names.max() + 1)), size=DRAWS)[:, names]
    low, high = np.quantile((weights @ first) / (weights @ second), [0.025, 0.975])
    return Interval(float(first.sum() / second.sum()), float(low), float(high))


def edge_gradient(image: np.ndarray, inside: np.ndarray) -> float:
    """Return the mean |difference| of neighbours of which one is inside and one outside; NaN where there are none."""
    grey, total, count = image.astype(int), 0, 0
    for axis in (0, 1):
        across = np.diff(inside.astype(int), axis=axis) != 0
        total += int(np.abs(np.diff(grey, axis=axis))[across].sum())
        count += int(across.sum())
    return total / count if count else float("nan")
