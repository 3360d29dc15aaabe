"""What the images of `benchmarks.packed_arms` are worth: control, fidelity, widths asked and found. On any CPU.

    python -m benchmarks.packed_measure WORKSPACE --arms DIR --models DIR --keep DIR

`--arms` holds a folder per arm, `--models` the guide and judge of the same run. Real images are the workspace's test
group at the size of the judge's images. Intervals are bootstraps over patients.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from benchmarks.packed import expert_layout, phantom_cases
from fetalflex import rng
from fetalflex.anatomy.editing import setting_of
from fetalflex.anatomy.layout import Layout, rasterize
from fetalflex.anatomy.measure import atrial_width, circumference
from fetalflex.anatomy.ontology import STRUCTURE_NAMES, structure_index
from fetalflex.dataset import Cases, marked_share, patient_names
from fetalflex.masks.segmenter import Segmenter
from fetalflex.params import read_params
from fetalflex.quality.anomalies import measure_seen, seen_layout
from fetalflex.quality.bootstrap import Interval, mean_interval, percentile_interval
from fetalflex.quality.control.overlap import control_dice, image_means
from fetalflex.quality.features.cache import CachedEncoder
from fetalflex.quality.features.inception import InceptionEncoder
from fetalflex.quality.fidelity import kernel as fidelity
from tasks.cases import read_cases

SHOWN, DRAWS = ("head", "csp", "lateral-ventricle"), 1000


def images_of(folder: Path) -> dict[str, tuple[np.ndarray, dict]]:
    """Return the images of an arm by case, with their notes."""
    return {
        p.stem: (np.asarray(Image.open(p).convert("L")), json.loads(p.with_suffix(".json").read_text()))
        for p in sorted(folder.glob("*.webp"))
    }


def text(value: Interval, digits: int = 3) -> str:
    """Return `value (low to high)`."""
    return f"{value.value:.{digits}f} ({value.low:.{digits}f} to {value.high:.{digits}f})"


def control(
    judge: Segmenter, images: np.ndarray, layouts: list[Layout], patients: np.ndarray
) -> tuple[dict[str, Interval], np.ndarray]:
    """Return the judge's Dice by structure with intervals, and all of it [N, columns]."""
    drawn = [rasterize(layout, images.shape[1]) for layout in layouts]
    known = np.array([name in judge.trained for name in STRUCTURE_NAMES])
    maps, kinds = np.stack([d.maps for d in drawn]), np.stack([d.kinds for d in drawn]) * known
    dice = control_dice(judge.predict, images, maps, kinds)
    columns = np.stack([*(dice[:, structure_index(n)] for n in SHOWN), image_means(dice)], 1)
    found = {
        n: mean_interval(columns[:, i], patients, DRAWS, rng.generator(7, "mean"))
        for i, n in enumerate([*SHOWN, "all"])
    }
    return found, columns


def head_errors(judge: Segmenter, images: np.ndarray, layouts: list[Layout]) -> np.ndarray:
    """Return (found - asked) / asked of the head's circumference, NaN where no head is asked or found."""
    k, size = structure_index("head"), images.shape[1]
    errors = []
    for image, layout in zip(images, layouts, strict=True):
        asked = rasterize(layout, size).maps[k] > 0.5
        seen = seen_layout(judge.predict(image[None])[0] > 0.5, layout, judge.trained)
        found = [o for o in seen.objects if o.structure == "head"]
        if not asked.any() or not found:
            errors.append(np.nan)
            continue
        one, other = circumference(found[0].draw(seen.extent, size), 1.0), circumference(asked, 1.0)
        errors.append((one - other) / other)
    return np.array(errors)


def widths(judge: Segmenter, arm: dict[str, tuple[np.ndarray, dict]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the asked atrial widths in mm and what the judge's marks measure in the same scale."""
    asked, found = [], []
    for image, note in arm.values():
        layout = Layout.from_json(note["layout"])
        seen = seen_layout(judge.predict(image[None])[0] > 0.5, layout, judge.trained)
        asked.append(measure_seen("ventriculomegaly", layout, setting_of(layout)))
        found.append(measure_seen("ventriculomegaly", seen, setting_of(layout)))
    return np.array(asked), np.array(found)


def fluid_region(pixels: np.ndarray, asked: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Return the dark region around where fluid was asked, bool [S, S], without any network; empty where none is dark.

    The threshold lies midway between the medians of the asked region's core and of a ring around it, inside the head.
    """
    smooth = ndimage.gaussian_filter(pixels.astype(float), pixels.shape[0] / 256 * 1.5)
    reach = max(3, round(float(np.sqrt(asked.sum())) * 0.6))
    near = ndimage.binary_dilation(asked, iterations=reach) & head
    core = ndimage.binary_erosion(asked, iterations=max(1, reach // 4))
    ring = near & ~ndimage.binary_dilation(asked, iterations=max(1, reach // 6))
    nothing = np.zeros_like(asked)
    if not core.any() or not ring.any() or np.median(smooth[core]) >= np.median(smooth[ring]):
        return nothing
    dark = (smooth < (np.median(smooth[core]) + np.median(smooth[ring])) / 2) & near
    labels, count = ndimage.label(ndimage.binary_opening(dark, iterations=max(1, pixels.shape[0] // 128)))
    shares = np.bincount(labels[core], minlength=count + 1)[1:]
    if count == 0 or shares.max() == 0:
        return nothing
    return ndimage.binary_fill_holes(labels == 1 + shares.argmax())


def grey_width(image: np.ndarray, layout: Layout) -> tuple[float, float]:
    """Return the asked atrial width and that of the dark region, in widths of the canvas; NaN where nothing is dark."""
    drawn = rasterize(layout, image.shape[0]).maps > 0.5
    wanted = drawn[structure_index("lateral-ventricle")]
    seen = fluid_region(image, wanted, drawn[structure_index("head")])
    return atrial_width(wanted, 1.0), atrial_width(seen, 1.0) if seen.any() else np.nan


def grey_widths(arm: dict[str, tuple[np.ndarray, dict]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the asked atrial widths in mm, and those of the dark regions in the images."""
    asked, found = [], []
    for image, note in arm.values():
        layout = Layout.from_json(note["layout"])
        scale = note["mm_per_unit"] * layout.extent
        wanted, seen = grey_width(image, layout)
        asked.append(wanted * scale)
        found.append(seen * scale)
    return np.array(asked), np.array(found)


def tell_widths(name: str, asked: np.ndarray, found: np.ndarray) -> None:
    """Print how found widths compare with asked ones."""
    off, ratio = found - asked, found / asked
    print(f"{name}: n {len(asked)}, seen {np.isfinite(found).sum()}, asked {np.median(asked):.1f} mm, found "
          f"{np.nanmedian(found):.1f}, at least 10 mm in {np.mean(found >= 10):.0%}")  # fmt: skip
    print(f"  off by {np.nanmedian(off):+.2f} mm, |off| {np.nanmedian(np.abs(off)):.2f}, within 1.5 mm "
          f"{np.mean(np.abs(off) <= 1.5):.0%}; ratio {np.nanmedian(ratio):.3f}, within 10 % "
          f"{np.mean(np.abs(ratio - 1) <= 0.1):.0%}")  # fmt: skip


def median(values: np.ndarray, patients: np.ndarray) -> Interval:
    """Return a median with its interval over patients."""
    names, numbers = np.unique(patients, return_inverse=True)
    random, draws = rng.generator(7, "median"), []
    for _ in range(DRAWS):
        chosen = np.concatenate([np.flatnonzero(numbers == i) for i in random.integers(len(names), size=len(names))])
        draws.append(np.nanmedian(values[chosen]))
    return percentile_interval(float(np.nanmedian(values)), np.array(draws))


def real_cases(root: Path, size: int) -> Cases:
    """Return the workspace's test group at a size."""
    params = read_params(root / "params.yaml")
    data = params.data.model_copy(update={"image_size": size})
    return read_cases(root, params.model_copy(update={"data": data})).of_group("test")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--arms", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--size", type=int, default=256)
    args = parser.parse_args()
    args.keep.mkdir(parents=True, exist_ok=True)
    kept = args.keep / "test.npz"
    if not kept.is_file():
        real_cases(args.workspace, args.size).save(kept)
    real, judge = Cases.load(kept), Segmenter.load(args.models / "judge")
    place = {str(c): i for i, c in enumerate(real.ids)}
    patients = patient_names(real)
    arms = {p.name: images_of(p) for p in sorted(args.arms.iterdir()) if p.is_dir()}
    encoder = CachedEncoder(InceptionEncoder(batch=16), args.keep / "features")

    def features(images: np.ndarray, names: np.ndarray) -> fidelity.Sample:
        return fidelity.Sample(encoder.features(images), names)

    expert = np.array([place[c] for c in arms["two"]])
    layouts = [expert_layout(real, int(i)) for i in expert]
    own, _ = control(judge, real.images[expert], layouts, patients[expert])
    print(f"judge on the real images of {len(expert)} layouts:", {k: text(v) for k, v in own.items()})
    planes = np.unique(real.planes[expert])
    heads = real.take(np.isin(real.planes, planes) & (marked_share(real) <= 0.05))
    against = features(heads.images, patient_names(heads))
    results: dict[str, tuple[np.ndarray, fidelity.Sample]] = {}
    for name in ("two", "one", "steps200", "boxes"):
        images = np.stack([image for image, _ in arms[name].values()])
        found, columns = control(judge, images, layouts, patients[expert])
        results[name] = columns, features(images, patients[expert])
        kid = fidelity.kid(against.features, results[name][1].features)
        print(f"{name}: KID {kid:.4f} (n {len(images)}, {len(heads)} real)", {k: text(v) for k, v in found.items()})
        errors = head_errors(judge, images, layouts)
        size_error = text(median(100 * np.abs(errors), patients[expert]), 2)
        print(f"  head circumference: |error| {size_error} %, signed median {100 * np.nanmedian(errors):+.2f} %")
    difference: Callable[[str, str], str] = lambda a, b: text(  # noqa: E731 - said twice
        fidelity.kid_difference(against, results[a][1], results[b][1], bootstrap=DRAWS, seed=7), 4
    )
    for one, other in (("two", "one"), ("one", "steps200"), ("boxes", "two")):
        shift = results[one][0] - results[other][0]
        told = {
            n: text(mean_interval(shift[:, i], patients[expert], DRAWS, rng.generator(7, "mean")))
            for i, n in enumerate([*SHOWN, "all"])
        }
        print(f"{one} - {other}: KID {difference(one, other)}", told)
    every = np.array([place[c] for c in arms["all"]])
    made = features(np.stack([image for image, _ in arms["all"].values()]), patients[every])
    clean = real.take(marked_share(real) <= 0.05)
    whole = features(clean.images, patient_names(clean))
    print(f"all planes: KID {fidelity.kid(whole.features, made.features):.4f}; n {len(every)}, {len(clean)} real")
    for name in ("wide", "phantom-wide"):
        tell_widths(f"{name}, by the judge", *widths(judge, arms[name]))
        tell_widths(f"{name}, by grey levels", *grey_widths(arms[name]))
    normal = arms["phantom"]
    phantoms = phantom_cases(("transventricular",), 110, args.size)
    at = {str(c): i for i, c in enumerate(phantoms.ids)}
    layouts = [phantoms.layout(at[c]) for c in normal]
    for label, images in (
        ("synthetic", np.stack([i for i, _ in normal.values()])),
        ("the phantom's own", np.stack([phantoms.images[at[c]] for c in normal])),
    ):
        found, _ = control(judge, images, layouts, np.array(list(normal)))
        print(f"phantom, normal, {label}: n {len(normal)}", {k: text(v) for k, v in found.items()})


if __name__ == "__main__":
    main()
