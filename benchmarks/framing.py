"""Images cut to the head: what lies around it, and how large it is in the frame, tells the source and no anomaly."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from fetalflex.anatomy.layout import mask_box
from fetalflex.anatomy.ontology import structure_index
from fetalflex.downstream.data.anomalies import AnomalyTask
from fetalflex.masks.segmenter import Segmenter, largest_part

MARGIN, LEAST_PX = 1.15, 40
Corners = tuple[float, float, float, float]


def around(mask: npt.NDArray[np.bool_], frame: int) -> Corners:
    """Return the square around a mask, with a margin, in pixels of a frame of `frame`; the whole frame without one."""
    box = mask_box(mask, frame)
    if box is None:
        return (0, 0, frame, frame)
    x0, y0, x1, y1 = box
    x, y, half = (x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0) * MARGIN / 2
    return (x - half, y - half, x + half, y + half)


def cut(image: npt.NDArray[np.uint8], corners: Corners, side: int) -> npt.NDArray[np.uint8]:
    """Return what lies between the corners, uint8 [side, side]; black beyond the frame."""
    framed = Image.fromarray(image).transform((side, side), Image.Transform.EXTENT, corners, Image.Resampling.BICUBIC)
    return np.asarray(framed)


def heads_of(images: npt.NDArray[np.uint8], guide: Segmenter, frame: int) -> list[Corners]:
    """Return the square around the head that the guide sees in each image, in pixels of a frame of `frame`.

    The whole frame where it sees none.
    """
    seen = guide.predict(images)[:, structure_index("head")] > 0.5
    parts = [largest_part(mask) for mask in seen]
    return [around(m if m.sum() >= LEAST_PX else np.zeros_like(m), frame) for m in parts]


def framed_task(task: AnomalyTask, guide: Segmenter) -> AnomalyTask:
    """Return the task with every image cut to its head, of equal size; both halves of a pair along the normal one's."""

    def framed(images: npt.NDArray[np.uint8], corners: list[Corners]) -> npt.NDArray[np.uint8]:
        return np.stack([cut(i, at, i.shape[0]) for i, at in zip(images, corners, strict=True)])

    parts = {}
    for name in ("real", "synthetic", "synthetic_abnormal", "calibration", "test", "abnormal"):
        part = getattr(task, name)
        parts[name] = replace(part, images=framed(part.images, heads_of(part.images, guide, part.images.shape[1])))
    at = heads_of(task.pairs.normal, guide, task.pairs.normal.shape[1])
    halves = {name: framed(getattr(task.pairs, name), at) for name in ("normal", "abnormal")}
    regions = framed(task.pairs.regions.astype(np.uint8) * 255, at) > 127
    return replace(task, **parts, pairs=replace(task.pairs, **halves, regions=regions))
