"""Do the scores see faults? Each is injected at three strengths into real held-out images, and its score measured.

    python -m benchmarks.sensitivity --workspace WORKSPACE [--images 300] [--only blur noise]

The patients of a workspace whom no generator saw are cut in two: one half stands for real images, the other, clean or
with a fault, for synthetic ones (where the judge scores, of those only whom it never saw); layouts are the experts'
own, limits and copies come of the training patients. A row of the table per
fault and strength: the matching score with its 95 % interval, clean and injected; whether the intervals are apart in
the right direction; what of the gate of the preset `base` fails, and how many of the images it rejects.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from scipy.stats import binomtest

from fetalflex.anatomy.ontology import PLANE_NAMES, structure_index
from fetalflex.dataset import EXPERT, Cases, marked_share, patient_names
from fetalflex.masks.segmenter import Segmenter
from fetalflex.params import Gate, Params, preset_text
from fetalflex.quality.bootstrap import Interval, mean_interval
from fetalflex.quality.control.overlap import AS_MASK, control_dice
from fetalflex.quality.features.cache import CachedEncoder
from fetalflex.quality.features.registry import open_encoder
from fetalflex.quality.fidelity.looks import looks
from fetalflex.quality.fidelity.measure import Figure, Plan, figure
from fetalflex.quality.fidelity.measures import MS_SSIM, REPEATED, Measure, of_encoder, of_looks
from fetalflex.quality.fidelity.sides import Side
from fetalflex.quality.gate import decide
from fetalflex.quality.plausibility.checks import Limits, Pictures, failures, learn_limits
from fetalflex.quality.privacy.nearest import Gallery, Search
from fetalflex.quality.summary import Parts, quality_report
from fetalflex.rng import generator
from tasks.cases import read_cases

SEED, DRAWS = 2026, 500
IMPLAUSIBLE = "implausible_fraction"
JUDGED = "dice.head"  # the score of the judge, who has seen some of the held-out patients
Images = np.ndarray
TEXT = "GA 21w3d  FL 34.2mm"


@dataclass(frozen=True, eq=False)
class Release:
    """What passes for a release: images, the cases whose layouts were asked, and which images carry the fault."""

    images: Images
    asked: Cases
    faulty: np.ndarray


@dataclass(frozen=True)
class Fault:
    """Strengths by name, each makes a release of a clean one; the matching score, and whether the fault raises it.

    `also_kid`: at the strongest the gate is asked about KID as well.
    """

    strengths: dict[str, Callable[[Release], Release]]
    score: str
    rises: bool
    also_kid: bool = False


class Bench:
    """Both halves of the test patients, and all that scores need."""

    def __init__(self, root: Path, count: int) -> None:
        cases = _read(root)
        clean = marked_share(cases) <= 0.05
        cases = cases.take(clean)
        self.train = cases.take(cases.groups == "train")
        self._pools = {
            JUDGED: _halves(cases.take(cases.groups == "test"), count),
            "": _halves(cases.take(cases.groups != "train"), count),
        }
        self.root, self.judge = root, Segmenter.load(root / "models" / "judge")
        self.head = structure_index("head")
        self._encoders: dict[str, CachedEncoder] = {}
        self._limits: Limits | None = None
        self._search: Search | None = None

    def pool(self, score: str) -> tuple[Cases, Cases]:
        """Return the half that stands for real images, and the one that stands for synthetic ones."""
        return self._pools.get(score, self._pools[""])

    def clean(self, score: str) -> Release:
        """Return the second half as it is."""
        made = self.pool(score)[1]
        return Release(made.images, made, np.ones(len(made), bool))

    def encoder(self, name: str) -> CachedEncoder:
        """Return an encoder whose features are kept beside the benchmark's other files."""
        if name not in self._encoders:
            made = open_encoder(name, self.root / "models" / "aligner")
            self._encoders[name] = CachedEncoder(made, Path(".work/cache/features"))
        return self._encoders[name]

    def measure(self, score: str, release: Release) -> tuple[Figure, dict[str, Any]]:
        """Return the figure of a score, and per image what the gate asks about it."""
        if score == "kid":
            rows = {"inception": self.encoder("inception").features}
            return self._between(of_encoder("inception")[0], release, rows), {}
        if score == JUDGED:
            return self._control(release)
        if score == "near_copy_fraction":
            return self._copies(release)
        if score == IMPLAUSIBLE:
            return self._checks(release)
        plain = {measure.name: measure for measure in (MS_SSIM, REPEATED, *of_looks())}
        return self._between(plain[score], release, {}), {}

    def _between(
        self, measure: Measure, release: Release, encoders: dict[str, Callable[[Images], np.ndarray]]
    ) -> Figure:
        real = self.pool("")[0]
        sides = (_side(real, real.images, encoders), _side(release.asked, release.images, encoders), None)
        return figure(measure, sides, Plan(("inception",), DRAWS, SEED))

    def _control(self, release: Release) -> tuple[Figure, dict[str, Any]]:
        kinds = np.where(release.asked.sources == EXPERT, AS_MASK, 0)
        kinds[:, [k for k in range(kinds.shape[1]) if k != self.head]] = 0
        found = control_dice(self.judge.predict, release.images, release.asked.masks.astype(np.float32), kinds)
        dice = found[:, self.head]
        interval = mean_interval(dice, patient_names(release.asked), DRAWS, generator(SEED, "dice"))
        return _figure(JUDGED, interval, int(np.isfinite(dice).sum())), {"dice": dice}

    def _copies(self, release: Release) -> tuple[Figure, dict[str, Any]]:
        if self._search is None:
            gallery = Gallery(self.train.images, self.train.ids, patient_names(self.train))
            self._search = Search(gallery, self.encoder("aligner"))
            self._search.calibrate(self.pool("")[0].images)
        found = self._search.find(release.images).near_copy
        ends = binomtest(int(found.sum()), len(found)).proportion_ci(method="exact")
        interval = Interval(float(found.mean()), float(ends.low), float(ends.high))
        return _figure("near_copy_fraction", interval, len(found)), {"near_copy": found.astype(float)}

    def _checks(self, release: Release) -> tuple[Figure, dict[str, Any]]:
        if self._limits is None:
            self._limits = learn_limits(_pictures(self.train, self.train.images))
        found = failures(_pictures(release.asked, release.images), self._limits)
        counts = np.array([float(len(f)) for f in found])
        interval = mean_interval((counts > 0) * 1.0, patient_names(release.asked), DRAWS, generator(SEED, "checks"))
        return _figure(IMPLAUSIBLE, interval, len(counts)), {"implausible": counts}


def _read(root: Path) -> Cases:
    values = yaml.safe_load((root / "params.yaml").read_text())
    return read_cases(root, Params(preset="x", data=values["data"], ingest=values["ingest"]))


def _halves(cases: Cases, count: int) -> tuple[Cases, Cases]:
    """Return up to `count` cases of each half of the patients, who are dealt out by a seeded draw."""
    names = patient_names(cases)
    patients = generator(SEED, "halves").permutation(np.unique(names))
    first = np.isin(names, patients[: len(patients) // 2])
    return _picked(cases.take(first), count), _picked(cases.take(~first), count)


def _side(cases: Cases, images: Images, encoders: dict[str, Callable[[Images], np.ndarray]]) -> Side:
    planes = np.array([PLANE_NAMES[int(p)] for p in cases.planes])
    rows = {name: features(images) for name, features in encoders.items()}
    return Side(images, rows, looks(images), patient_names(cases), planes, cases.centers.astype(np.str_))


def _picked(cases: Cases, count: int) -> Cases:
    places = generator(SEED, "picked").permutation(len(cases))[:count]
    return cases.take(np.sort(places))


def _pictures(cases: Cases, images: Images) -> Pictures:
    return Pictures(images, cases.centers.astype(np.str_), cases.masks[:, structure_index("femur")])


def _figure(name: str, interval: Interval, n: int) -> Figure:
    return Figure(name, interval.value, interval.low, interval.high, n, n, n, None, None)


def each(change: Callable[[Images, np.random.Generator], Images], *names: str) -> Callable[[Release], Release]:
    """Return what changes every image, each with a generator of its own."""

    def made(release: Release) -> Release:
        changed = [change(image, generator(SEED, *names, i)) for i, image in enumerate(release.images)]
        return replace(release, images=np.stack(changed))

    return made


def some(share: float, name: str) -> Callable[[Release], np.ndarray]:
    """Return what picks a share of the images."""
    return lambda release: generator(SEED, name).permutation(len(release.images))[: round(share * len(release.images))]


def blur(sigma: float) -> Callable[[Images, np.random.Generator], Images]:
    """Smooth by a Gaussian of so many pixels."""
    return lambda image, _: np.round(ndimage.gaussian_filter(image.astype(float), sigma)).astype(np.uint8)


def noise(sigma: float) -> Callable[[Images, np.random.Generator], Images]:
    """Add white noise of so many grey levels."""
    return lambda image, random: np.round(image + random.normal(0, sigma, image.shape)).clip(0, 255).astype(np.uint8)


def turned(degrees: float) -> Callable[[Images, np.random.Generator], Images]:
    """Tilt the whole image, and its sector with it."""
    return lambda image, _: np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR))


def written(size: int) -> Callable[[Images, np.random.Generator], Images]:
    """Write a line of letters so many pixels high, white, somewhere."""

    def made(image: Images, random: np.random.Generator) -> Images:
        picture = Image.fromarray(image)
        place = (int(random.integers(0, 12)), int(random.integers(0, image.shape[0] - size - 1)))
        ImageDraw.Draw(picture).text(place, TEXT, fill=255, font=ImageFont.load_default(size))
        return np.asarray(picture)

    return made


def other_plane(share: float) -> Callable[[Release], Release]:
    """Show an image of another plane than was asked, in a share of the images."""

    def made(release: Release) -> Release:
        images, chosen = release.images.copy(), some(share, "plane")(release)
        for i in chosen:
            others = np.nonzero(release.asked.planes != release.asked.planes[i])[0]
            images[i] = release.images[generator(SEED, "other", int(i)).choice(others)]
        return _marked(release, images, chosen)

    return made


def other_layout(share: float) -> Callable[[Release], Release]:
    """Show an image that another layout of the plane was asked of, in a share of the images."""

    def made(release: Release) -> Release:
        images, chosen = release.images.copy(), some(share, "layout")(release)
        for i in chosen:
            same = release.asked.planes == release.asked.planes[i]
            same[i] = False
            if same.any():
                images[i] = release.images[generator(SEED, "ignored", int(i)).choice(np.nonzero(same)[0])]
        return _marked(release, images, chosen)

    return made


def collapsed(share: float) -> Callable[[Release], Release]:
    """Show one and the same image in a share of the release."""

    def made(release: Release) -> Release:
        images, chosen = release.images.copy(), some(share, "collapse")(release)
        images[chosen] = release.images[chosen[0]]
        return _marked(release, images, chosen)

    return made


def copied(share: float, training: Images) -> Callable[[Release], Release]:
    """Put training images in, half of them mirrored."""

    def made(release: Release) -> Release:
        images, chosen = release.images.copy(), some(share, "copies")(release)
        picked = training[generator(SEED, "copied").choice(len(training), len(chosen), replace=False)]
        picked[1::2] = picked[1::2, :, ::-1]
        images[chosen] = picked
        return _marked(release, images, chosen)

    return made


def _marked(release: Release, images: Images, chosen: np.ndarray) -> Release:
    return Release(images, release.asked, np.isin(np.arange(len(images)), chosen))


def faults(training: Images) -> dict[str, Fault]:
    """Return every fault with its three strengths, the weakest first."""
    shares = (0.25, 0.5, 1.0)
    return {
        "blur": Fault(
            {f"{s} px": each(blur(s), "blur") for s in (0.5, 1.0, 2.0)}, "look.speckle_size_along", True, True
        ),
        "noise": Fault({f"{s} grey levels": each(noise(s), "noise") for s in (5, 10, 20)}, "kid", True),
        "wrong sector": Fault(
            {f"tilted {s} degrees": each(turned(s), "turn") for s in (5, 15, 30)}, "look.sector_asymmetry", True, True
        ),
        "wrong plane": Fault({f"{s:.0%} of images": other_plane(s) for s in shares}, JUDGED, False),
        "mode collapse": Fault({f"{s:.0%} one image": collapsed(s) for s in shares}, "repeated_fraction", True, True),
        "layout ignored": Fault({f"{s:.0%} of images": other_layout(s) for s in shares}, JUDGED, False),
        "training copies": Fault(
            {f"{s:.0%} of images": copied(s, training) for s in (0.05, 0.1, 0.2)}, "near_copy_fraction", True
        ),
        "text": Fault({f"{s} px": each(written(s), "text") for s in (6, 8, 12)}, IMPLAUSIBLE, True, True),
    }


def verdict(figures: list[Figure], columns: dict[str, Any], faulty: np.ndarray) -> str:
    """Return what the gate of the preset `base` says, of those of its criteria that were measured."""
    whole = Gate.model_validate_json(json.dumps(yaml.safe_load(preset_text("base"))["gate"]))
    names = {f.name for f in figures}
    release = tuple(c for c in whole.release if c.metric in names)
    gate = Gate(release=release, image=tuple(c for c in whole.image if c.metric in columns))
    rows = [{"image_id": i} | {name: column[i] for name, column in columns.items()} for i in np.nonzero(faulty)[0]]
    if "dice" in columns:
        rows = [row for row in rows if np.isfinite(row["dice"])]
    found = decide(quality_report(Parts(("inception",), more=figures)), {}, rows if gate.image else [], gate)
    missed = [c["metric"] for c in found["criteria"] if not c["passed"] and c["metric"] in names]
    told = [f"release: {', '.join(missed)}"] if missed else []
    if gate.image and rows:
        told.append(f"{len(found['images']['rejected'])} of {len(rows)} images")
    return "; ".join(told) or "nothing"


def table(bench: Bench, only: list[str]) -> Iterator[str]:
    """Yield the table's lines."""
    yield "| fault | strength | score | clean | injected | apart | the gate rejects |"
    yield "|---|---|---|---|---|---|---|"
    for name, fault in faults(bench.train.images).items():
        if only and name not in only:
            continue
        start = bench.clean(fault.score)
        before, columns = bench.measure(fault.score, start)
        start_of_line = f"| `{fault.score}` | {_told(before)}"
        yield f"| {name} | none {start_of_line} | – | – | {verdict([before], columns, start.faulty)} |"
        for strength, change in fault.strengths.items():
            release = change(start)
            after, columns = bench.measure(fault.score, release)
            apart = after.low > before.high if fault.rises else after.high < before.low
            strongest = strength == list(fault.strengths)[-1]
            figures = [after, bench.measure("kid", release)[0]] if fault.also_kid and strongest else [after]
            said = verdict(figures, columns, release.faulty)
            seen = "yes" if apart else "**no**"
            yield f"| {name} | {strength} {start_of_line} | {_told(after)} | {seen} | {said} |"


def _told(found: Figure) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--only", nargs="*", default=[], help="faults; all where none is named")
    found = parser.parse_args()
    bench = Bench(found.workspace, found.images)
    for score, (real, made) in ((score, bench.pool(score)) for score in (JUDGED, "every other score")):
        print(f"{score}: real {len(real)}, made of {len(made)}; training {len(bench.train)}", flush=True)
    for line in table(bench, found.only):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
