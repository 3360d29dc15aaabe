"""Cases small enough to travel: images as lossless WebP, masks as bits, one zip. And cases of the phantom's own making.

    python -m benchmarks.packed WORKSPACE --size 256 --out CASES.zip [--phantom 40]

What a training on another machine needs of a workspace (see docs/howto/train-on-gpu.md), at a third of the size of
`Cases.save`. The zip holds images of patients: treat it as the frames themselves.
"""

import argparse
import io
import zipfile
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from PIL import Image

from fetalflex.anatomy.layout import Layout
from fetalflex.anatomy.ontology import STRUCTURE_NAMES, plane_index, structure_index
from fetalflex.dataset import ABSENT, EXPERT, PREDICTED, Cases, to_canvas
from fetalflex.errors import LayoutError
from fetalflex.phantom.acoustics import image_scene
from fetalflex.phantom.devices import device
from fetalflex.phantom.scene import make_scene
from fetalflex.rng import generator

BITS = ("masks", "valid", "ignored")
CENTERS = {"phantom-a": "curved-a", "phantom-b": "curved-b"}
GROUPS = ("train", "train", "train", "judge", "test")


def pack(cases: Cases, path: Path) -> None:
    """Write cases as one zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, image in enumerate(cases.images):
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, "WEBP", lossless=True, quality=100, method=4)
            archive.writestr(zipfile.ZipInfo(f"images/{number}.webp"), stream.getvalue(), zipfile.ZIP_STORED)
        for item in fields(Cases):
            values = getattr(cases, item.name)
            if item.name == "images":
                continue
            stream = io.BytesIO()
            kept = np.packbits(values, axis=None) if item.name in BITS else values
            np.save(stream, kept.astype(np.str_) if kept.dtype == object else kept, allow_pickle=False)
            archive.writestr(f"{item.name}.npy", stream.getvalue())


def unpack(path: Path) -> Cases:
    """Read what `pack` wrote."""
    with zipfile.ZipFile(path) as archive:
        arrays = {
            f.name: np.load(io.BytesIO(archive.read(f"{f.name}.npy")), allow_pickle=False)
            for f in fields(Cases)
            if f.name != "images"
        }
        names = [f"images/{number}.webp" for number in range(len(arrays["ids"]))]
        images = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("L")) for name in names]
    n, size = len(images), images[0].shape[0]
    shapes = {"masks": (n, len(STRUCTURE_NAMES), size, size), "valid": (n, size, size), "ignored": (n, size, size)}
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        arrays[name] = np.unpackbits(arrays[name], count=count).astype(bool).reshape(shape)
    return Cases(images=np.stack(images), **arrays)


def join(parts: Sequence[Cases]) -> Cases:
    """Return cases one after the other."""
    return Cases(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Cases)})


def phantom_case(plane: str, center: str, number: int, size: int, change: tuple[str, float] | None = None) -> Cases:
    """Return one imaged scene with all its masks; `change`: an anomaly and its severity."""
    random = generator(number, "phantom case", plane, center, "" if change is None else change[0])
    weeks = float(random.uniform(18.0, 32.0))
    picture = image_scene(make_scene(plane, weeks, random, change), device(CENTERS[center]), random)
    x0, y0, x1, y1 = picture.region
    pixels = picture.pixels[y0:y1, x0:x1]
    masks, sources = (
        np.zeros((1, len(STRUCTURE_NAMES), size, size), bool),
        np.zeros((1, len(STRUCTURE_NAMES)), np.uint8),
    )
    for name, mask in picture.masks.items():
        drawn = to_canvas(mask[y0:y1, x0:x1], size, mask=True)
        if drawn.any():
            masks[0, STRUCTURE_NAMES.index(name)], sources[0, STRUCTURE_NAMES.index(name)] = drawn, EXPERT
    valid = to_canvas(np.ones(pixels.shape, bool), size, mask=True)
    return Cases(
        ids=np.array([f"{center}-{plane}-{number}"]), centers=np.array([center]), patients=np.array([f"p{number}"]),
        groups=np.array([GROUPS[number % len(GROUPS)]]), images=to_canvas(pixels, size)[None], masks=masks,
        sources=sources, confidences=(sources > 0).astype(np.float32), planes=np.array([plane_index(plane)], np.int64),
        ages=np.array([weeks], np.float32),
        spacings=np.array([picture.spacing_mm * max(pixels.shape) / size], np.float32),
        valid=valid[None], ignored=np.zeros((1, size, size), bool),
    )  # fmt: skip


def phantom_cases(planes: Sequence[str], count: int, size: int) -> Cases:
    """Return `count` normal scenes per plane and center, numbered alike: number / 5 decides the group."""
    return join([phantom_case(p, c, n, size) for p in planes for c in CENTERS for n in range(count)])


def for_training(cases: Cases) -> Cases:
    """Return the cases as another machine needs them.

    Of the test group that is its layouts, guessed ones too; of all others the images and what experts drew.
    """
    test = cases.groups == "test"
    known = (cases.sources != PREDICTED) | test[:, None]
    return replace(
        cases,
        images=cases.images * ~test[:, None, None],
        masks=cases.masks & known[..., None, None],
        sources=np.where(known, cases.sources, ABSENT).astype(np.uint8),
    )


def wide_phantoms(count: int, size: int) -> Cases:
    """Return scenes of the phantom with ventricles of 11 to 20 mm, for the judge alone: up to `count` per center."""
    made = []
    for center in CENTERS:
        for n in range(count):
            change = ("ventriculomegaly", 11 + 9 * n / max(count - 1, 1))
            try:
                made.append(phantom_case("transventricular", center, 10_003 + 5 * n, size, change))
            except LayoutError:  # a head of that age has no room for it
                continue
    return join(made)


def expert_layout(cases: Cases, index: int) -> Layout:
    """Return the case's layout with its experts' outlines alone."""
    layout = cases.layout(index)
    kept = tuple(o for o in layout.objects if cases.sources[index, structure_index(o.structure)] == EXPERT)
    return replace(layout, objects=kept)


def main() -> None:
    """Pack a workspace's cases."""
    from fetalflex.params import read_params  # polars and what it needs: where they are packed, not where trained
    from tasks.cases import read_cases

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--phantom", type=int, default=0, help="normal scenes per center of the phantom's head plane")
    parser.add_argument("--abroad", action="store_true", help="only what a training elsewhere needs")
    parser.add_argument("--wide", type=Path, help="also pack abnormal scenes of the phantom, for the judge, there")
    args = parser.parse_args()
    params = read_params(args.workspace / "params.yaml")
    data = params.data.model_copy(update={"image_size": args.size})
    cases = read_cases(args.workspace, params.model_copy(update={"data": data}))
    if args.phantom:
        cases = join([cases, phantom_cases(("transventricular",), args.phantom, args.size)])
    if args.abroad:
        cases = for_training(cases)
    if args.wide:
        pack(wide_phantoms(30, args.size), args.wide)
    pack(cases, args.out)
    print(f"{args.out}: {len(cases)} cases of {cases.size} px, {args.out.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
