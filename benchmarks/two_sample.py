"""Can a classifier, and can you, tell the images of a folder from a workspace's real test images?

    python -m benchmarks.two_sample WORKSPACE --images DIR [--size 256] [--sheet sheet.png]

`--images`: pictures named by the case whose layout they follow. For each plane and each encoder: the area under the
ROC curve of a classifier that tells them apart, on patients that it has not seen (`quality.fidelity.two_sample`), its
95 % interval over patients, and the same between real test and real training images. The sheet mixes both kinds of one
plane, as many of each; which are real stands in `sheet.json`.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from fetalflex.anatomy.ontology import PLANE_NAMES
from fetalflex.dataset import Cases, patient_names
from fetalflex.params import read_params
from fetalflex.quality.features.inception import InceptionEncoder
from fetalflex.quality.features.texture import TextureEncoder
from fetalflex.quality.fidelity.looks import looks
from fetalflex.quality.fidelity.measure import Plan, figure
from fetalflex.quality.fidelity.measures import of_encoder
from fetalflex.quality.fidelity.sides import Side
from fetalflex.rng import generator
from tasks.cases import read_cases

ENCODERS = {"inception": InceptionEncoder, "texture": TextureEncoder}
SHEET = (6, 8)  # rows and columns


def side(cases: Cases, images: np.ndarray) -> Side:
    """Return images that follow these cases, or are theirs, with their features."""
    features = {name: encoder().features(images) for name, encoder in ENCODERS.items()}
    planes = np.array([PLANE_NAMES[int(p)] for p in cases.planes])
    return Side(images, features, looks(images), patient_names(cases), planes, cases.centers)


def mixed_sheet(real: np.ndarray, made: np.ndarray, seed: int) -> tuple[Image.Image, list[bool]]:
    """Return as many real as synthetic images in random order, and which are real, row by row."""
    rows, columns = SHEET
    half = min(len(real), len(made), rows * columns // 2)
    random = generator(seed, "sheet")
    chosen = [(image, kind) for images, kind in ((real, True), (made, False))
              for image in images[random.permutation(len(images))[:half]]]  # fmt: skip
    order = random.permutation(len(chosen))
    size = real.shape[1]
    sheet = Image.new("L", (columns * size, -(-len(chosen) // columns) * size))
    for place, number in enumerate(order):
        sheet.paste(Image.fromarray(chosen[number][0]), (place % columns * size, place // columns * size))
    return sheet, [bool(chosen[n][1]) for n in order]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--most", type=int, default=400, help="real images a side")
    parser.add_argument("--plane", default="transventricular", help="of the sheet")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    params = read_params(options.workspace / "params.yaml")
    data = params.data.model_copy(update={"image_size": options.size})
    cases = read_cases(options.workspace, params.model_copy(update={"data": data}))
    test, train = (cases.take(cases.groups == group) for group in ("test", "train"))
    made = {p.stem: p for p in sorted(options.images.iterdir()) if p.suffix in (".png", ".webp")}
    order = [i for i, name in enumerate(test.ids) if str(name) in made]
    images = np.stack([np.asarray(Image.open(made[str(test.ids[i])]).convert("L")) for i in order])
    synthetic = side(test.take(np.array(order)), images)
    random = generator(options.seed, "chosen")
    chosen = [g.take(np.sort(random.permutation(len(g))[: options.most])) for g in (test, train)]
    real, other = (side(g, g.images) for g in chosen)
    plan = Plan(tuple(ENCODERS), 1000, options.seed)
    rows = []
    for plane in ("", *sorted(set(synthetic.planes))):
        sides = [s if not plane else s.take(s.planes == plane) for s in (real, synthetic, other)]
        for encoder in ENCODERS:
            measures = [m for m in of_encoder(encoder) if m.name in ("two_sample_auc", "kid")]
            rows += [asdict(figure(m, tuple(sides), plan)) | {"plane": plane or "all"} for m in measures]
    print(json.dumps(rows, indent=1))
    if options.sheet:
        here = [s.images[s.planes == options.plane] for s in (real, synthetic)]
        sheet, kinds = mixed_sheet(*here, options.seed)
        sheet.save(options.sheet)
        options.sheet.with_suffix(".json").write_text(json.dumps(kinds))


if __name__ == "__main__":
    main()
