"""Frames and masks joined on the square training canvas: the arrays that every network and metric reads.

Polars is imported only where tables are read: training and sampling run on packed arrays
(`Cases.save` / `Cases.load`) on a machine that has torch, diffusers and numpy alone.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from fetalflex.anatomy.layout import Layout, LayoutObject, box_mask, mask_box
from fetalflex.anatomy.ontology import PLANE_NAMES, STRUCTURE_NAMES, plane_index, structure_index
from fetalflex.artifacts import atomic, decode_png
from fetalflex.errors import ArtifactError

if TYPE_CHECKING:
    import polars as pl

Array = npt.NDArray[Any]
ABSENT, EXPERT, PREDICTED, EXPERT_BOX = 0, 1, 2, 3
TEXT = ("ids", "centers", "patients", "groups")


@dataclass(frozen=True, eq=False)
class Cases:
    """N cases on the S x S canvas, K = number of structures of the ontology.

    images: uint8 [N, S, S]; masks: bool [N, K, S, S] (boxes filled where there is only a box);
    sources: uint8 [N, K], ABSENT (not annotated, not predicted: *unknown*), EXPERT, PREDICTED or EXPERT_BOX;
    confidences: float32 [N, K]; planes: int64 [N] numbers of `anatomy.ontology.PLANES`;
    ages: float32 [N] weeks, NaN where unknown; spacings: float32 [N] mm per canvas pixel, NaN where unknown;
    valid: bool [N, S, S], false in the padding; ignored: bool [N, S, S], true where a mark of the image (blanked text,
    a caliper) was filled from its surroundings: no loss may count it; ids, centers, patients, groups: str [N].
    """

    ids: Array
    centers: Array
    patients: Array
    groups: Array
    images: Array
    masks: Array
    sources: Array
    confidences: Array
    planes: Array
    ages: Array
    spacings: Array
    valid: Array
    ignored: Array

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size(self) -> int:
        """The canvas side in pixels."""
        return int(self.images.shape[1])

    def take(self, index: Array | Sequence[int]) -> Cases:
        """Return the cases of these positions (or of a boolean mask)."""
        return Cases(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def of_group(self, group: str) -> Cases:
        """Return the cases of one group of patients: train, judge or test."""
        return self.take(self.groups == group)

    def layout(self, index: int) -> Layout:
        """Return case `index` as a layout, in mm where its spacing is known, else in image units.

        Raises: LayoutError where it has a structure that its plane does not have.
        """
        spacing = float(self.spacings[index])
        extent, unit = (spacing * self.size, "mm") if np.isfinite(spacing) else (1.0, "image")
        objects = []
        for k in np.nonzero(self.sources[index])[0]:
            mask = self.masks[index, k]
            box = mask_box(mask, extent)
            if box is not None:
                shape = None if self.sources[index, k] == EXPERT_BOX else mask
                objects.append(LayoutObject(STRUCTURE_NAMES[k], box, shape))
        age = float(self.ages[index])
        return Layout(
            PLANE_NAMES[int(self.planes[index])], unit, extent, tuple(objects),  # type: ignore[arg-type]
            str(self.centers[index]), age if np.isfinite(age) else None,
        )  # fmt: skip

    def save(self, path: Path) -> None:
        """Pack into one compressed npz without pickled objects, whole or not at all; equal cases are equal bytes."""
        packed = {f.name: getattr(self, f.name) for f in fields(self)}
        packed |= {name: packed[name].astype(np.str_) for name in TEXT}
        with atomic(path) as partial, partial.open("wb") as stream:
            np.savez_compressed(stream, **packed)

    @staticmethod
    def load(path: Path) -> Cases:
        """Read packed cases. Raises: ArtifactError where the file is missing or none of ours."""
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as packed:
                return Cases(**{f.name: packed[f.name] for f in fields(Cases)})
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise ArtifactError(f"{path}: no packed cases ({error}); pack them again") from error


def patient_names(cases: Cases) -> npt.NDArray[np.str_]:
    """Return names of patients that are unique over centers."""
    return np.char.add(np.char.add(cases.centers.astype(np.str_), "/"), cases.patients.astype(np.str_))


def marked_share(cases: Cases) -> Array:
    """Return the share of each image's area (without padding) that marks cover: float64 [N]."""
    area = cases.valid.sum((1, 2))
    share: Array = (cases.ignored & cases.valid).sum((1, 2)) / np.maximum(area, 1)
    return share


def to_canvas(pixels: Array, size: int, *, mask: bool = False) -> Array:
    """Scale an image [H, W] so that its longer side is `size`, centred on a black square [size, size].

    Grey images (uint8) are area-averaged (Lanczos when growing); masks (bool) are averaged and cut at one half (nearest
    when growing).
    """
    height, width = pixels.shape
    h, w, top, left = canvas_box(height, width, size)
    shrink = max(height, width) > size
    method = Image.Resampling.BOX if shrink else Image.Resampling.NEAREST if mask else Image.Resampling.LANCZOS
    source = pixels.astype(np.uint8) * 255 if mask else pixels
    scaled = np.asarray(Image.fromarray(source).resize((w, h), method))
    canvas = np.zeros((size, size), np.uint8)
    canvas[top : top + h, left : left + w] = scaled
    return canvas > 127 if mask else canvas


def touched_canvas(mask: Array, size: int) -> Array:
    """Return bool [size, size]: every canvas pixel that some pixel of a frame's mask [H, W] has a part in."""
    height, width = mask.shape
    h, w, top, left = canvas_box(height, width, size)
    # Lanczos (where an image grows) reaches three source pixels far, area-averaging none.
    marked = Image.fromarray(mask.astype(np.uint8) * 255)
    reached = marked if max(height, width) > size else marked.filter(ImageFilter.MaxFilter(7))
    scaled = reached.convert("F").resize((w, h), Image.Resampling.BOX)
    canvas = np.zeros((size, size), bool)
    canvas[top : top + h, left : left + w] = np.asarray(scaled) > 0
    return canvas


def canvas_box(height: int, width: int, size: int) -> tuple[int, int, int, int]:
    """Return (h, w, top, left) of a height x width image on the canvas of side `size`."""
    scale = size / max(height, width)
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    return h, w, (size - h) // 2, (size - w) // 2


def load_cases(frames: pl.DataFrame, masks: pl.DataFrame, splits: pl.DataFrame, size: int) -> Cases:
    """Join tables (schemas Frames, Masks, Splits) into arrays, ordered by case id.

    Only cases that `splits` knows are taken. Marks are filled and noted in `ignored`.
    Raises: ArtifactError for a split's case without a frame, or a mask that has not its frame's size.
    """
    groups = dict(zip(splits["case_id"], splits["group"], strict=True))
    rows = [r for r in frames.sort("case_id").iter_rows(named=True) if r["case_id"] in groups]
    if len(rows) != len(groups):
        missing = sorted(set(groups) - {r["case_id"] for r in rows})
        raise ArtifactError(
            f"{len(missing)} cases of the splits have no frame (first: {missing[0]}); re-run the stage masks"
            if missing
            else "frames: a case stands there more than once; re-run the stage ingest"
        )
    by_case: dict[str, list[dict[str, Any]]] = {}
    for row in masks.iter_rows(named=True):
        by_case.setdefault(row["case_id"], []).append(row)
    n, k = len(rows), len(STRUCTURE_NAMES)
    shape = np.zeros((n, k, size, size), bool)
    sources, confidences = np.zeros((n, k), np.uint8), np.zeros((n, k), np.float32)
    images = np.zeros((n, size, size), np.uint8)
    valid, ignored = np.zeros((n, size, size), bool), np.zeros((n, size, size), bool)
    spacings = np.full(n, np.nan, np.float32)
    for i, row in enumerate(rows):
        frame, images[i], valid[i], ignored[i] = _picture(row, size)
        if row["spacing_mm"] is not None:
            spacings[i] = row["spacing_mm"] * max(frame) / size
        for item in by_case.get(row["case_id"], []):
            j = structure_index(item["structure"])
            shape[i, j], sources[i, j] = _shape(item, frame, size)
            confidences[i, j] = item["confidence"]
    return Cases(
        ids=np.array([r["case_id"] for r in rows], np.str_),
        centers=np.array([r["center"] for r in rows], np.str_),
        patients=np.array([r["patient"] for r in rows], np.str_),
        groups=np.array([groups[r["case_id"]] for r in rows], np.str_),
        images=images, masks=shape, sources=sources, confidences=confidences,
        planes=np.array([plane_index(r["plane"]) for r in rows], np.int64),
        ages=np.array([np.nan if r["age_weeks"] is None else r["age_weeks"] for r in rows], np.float32),
        spacings=spacings, valid=valid, ignored=ignored,
    )  # fmt: skip


def _picture(row: dict[str, Any], size: int) -> tuple[tuple[int, int], Array, Array, Array]:
    """Return a frame's (height, width), and on the canvas its image without marks, where it is, where marks were."""
    from fetalflex.marks import fill_marks, read_marks  # scipy, which packed cases do without

    pixels = decode_png(row["image"]["bytes"])
    height, width = pixels.shape
    valid, ignored = np.zeros((size, size), bool), np.zeros((size, size), bool)
    h, w, top, left = canvas_box(height, width, size)
    valid[top : top + h, left : left + w] = True
    marked = read_marks(row["marks"], height, width)
    if marked is not None:
        pixels, ignored = fill_marks(pixels, marked), touched_canvas(marked, size)
    return (height, width), to_canvas(pixels, size), valid, ignored


def _shape(item: dict[str, Any], frame: tuple[int, ...], size: int) -> tuple[Array, int]:
    """Return one structure's canvas mask and where it comes from; a structure too small to see becomes its box."""
    if item["mask"] is not None and item["mask"]["bytes"] is not None:
        stored = decode_png(item["mask"]["bytes"])
        if stored.shape != frame:
            raise ArtifactError(
                f"case {item['case_id']}: the mask of {item['structure']} is {stored.shape}, its frame {frame}; "
                f"re-run the stage masks"
            )
        mask = to_canvas(stored > 127, size, mask=True)
        if mask.any():
            return mask, EXPERT if item["source"] == "expert" else PREDICTED
    h, w, top, left = canvas_box(frame[0], frame[1], size)
    sx, sy = w / frame[1], h / frame[0]
    box = (left + item["x0"] * sx, top + item["y0"] * sy, left + item["x1"] * sx, top + item["y1"] * sy)
    mask = box_mask(box, size, size)
    if item["source"] != "expert":
        return mask, PREDICTED
    only_box = item["mask"] is None or item["mask"]["bytes"] is None
    return mask, EXPERT_BOX if only_box else EXPERT


def from_canvas(mask: Array, height: int, width: int) -> Array:
    """Return a canvas mask [S, S] in the pixels of the height x width frame it was made from (edges interpolated)."""
    h, w, top, left = canvas_box(height, width, mask.shape[0])
    inner = mask[top : top + h, left : left + w].astype(np.uint8) * 255
    grown = Image.fromarray(inner).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(grown) > 127
