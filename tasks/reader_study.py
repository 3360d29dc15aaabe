"""What a reader study of a workspace is drawn of: held-out real images, and the synthetic ones of the release."""

from pathlib import Path

import numpy as np

from fetalflex.anatomy.ontology import PLANE_NAMES
from fetalflex.artifacts import decode_png, read_json
from fetalflex.dataset import to_canvas
from fetalflex.reader_study.draw import Candidate
from tasks.cases import read_cases, read_synthetic
from tasks.workspace import load_params


def candidates(root: Path, groups: tuple[str, ...] = ("test",)) -> list[Candidate]:
    """Return real images of these groups of patients and the synthetic normal images that the gate has accepted.

    Both on the model's square canvas: a difference in resolution would give the answer away. Raises: ArtifactError.
    """
    params = load_params(root)
    cases = read_cases(root, params)
    chosen = cases.take(np.isin(cases.groups, groups))
    real = [
        Candidate("real", PLANE_NAMES[int(p)], str(c), str(i), image)
        for p, c, i, image in zip(chosen.planes, chosen.centers, chosen.ids, chosen.images, strict=True)
    ]
    refused = _refused(root / "reports" / "gate.json")
    made = [
        Candidate(
            "synthetic", row["plane"], row["center"], row["image_id"],
            to_canvas(decode_png(row["image"]["bytes"]), params.data.image_size),
        )
        for row in read_synthetic(root).iter_rows(named=True)
        if row["kind"] == "normal" and row["image_id"] not in refused
    ]  # fmt: skip
    return [c for c in real + made if c.plane != "unknown"]


def _refused(path: Path) -> set[str]:
    return {i["image_id"] for i in read_json(path)["images"]["rejected"]} if path.is_file() else set()
